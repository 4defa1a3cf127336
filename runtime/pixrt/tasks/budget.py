"""What a budget in milliseconds chooses: the best rung of the bundle's ladder that fits by what was measured here.

Must not import a backend. The choice follows from its arguments only.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pixrt.backends.tuned import EditCost
from pixrt.bundles.manifest import Manifest
from pixrt.core.track import Steps, make_steps
from pixrt.errors import OptionError
from pixrt.options.choices import EXACT
from pixrt.options.ladder import climb
from pixrt.options.tasks import Options
from pixrt.pictures.geometry import Geometry

MOST_RATIO = 2.0  # of two pictures' areas; beyond it what one takes says little of the other
AnOption = TypeVar("AnOption", bound=Options)


@dataclass(frozen=True, slots=True)
class Purse:
    """What edits cost here: by the side of the square pictures that were measured, and what can be used again.

    Raises OptionError by `refusal` where nothing was measured.
    """

    costs: Mapping[int, EditCost]
    levers: Collection[str]
    refusal: Callable[[str], OptionError]

    def choose(
        self, asked: Options, resolved: AnOption, geometry: Geometry, manifest: Manifest
    ) -> tuple[AnOption, float]:
        """The options of the first rung that fits, the exact edit being the first, and the milliseconds expected.

        `asked` has what the caller said, which stays. Raises OptionError where the least does not fit, which it says.
        """
        budget = asked.budget_ms
        assert budget is not None
        width, height = geometry.padded
        cost = self._cost(width, height)
        own = {"steps": manifest.defaults.steps, "scheduler": manifest.defaults.scheduler, **EXACT}
        found: list[tuple[float, AnOption]] = []
        for rung in (own, *climb(manifest.defaults, self.levers)):
            try:
                options = dataclasses.replace(resolved, **asked.unsaid(rung))
                expected = cost_ms(make_steps(options, manifest.scheduler), cost)
            except OptionError:  # a strength that leaves nothing of so few steps, a solver that has no so many
                continue
            if expected <= budget:
                return options, expected
            found.append((expected, options))
        if not found:
            make_steps(resolved, manifest.scheduler)
            raise OptionError("no steps are left", remedy="Use a greater strength", option="strength")
        least, options = min(found, key=lambda each: each[0])
        raise OptionError(
            f"budget_ms is {budget}, and the least here, {in_words(options)}, takes {least:.0f} ms at"
            f" {width} x {height} pixels",
            remedy="Give more, a smaller resolution, or leave open what you have said of steps and intervals",
            option="budget_ms",
        )

    def _cost(self, width: int, height: int) -> EditCost:
        """By area, from the measured size that is nearest to it."""
        if not self.costs:
            raise self.refusal("nothing was measured")
        area = width * height
        size = min(self.costs, key=lambda side: (max(area / side**2, side**2 / area), side))
        if not 1 / MOST_RATIO <= area / size**2 <= MOST_RATIO:
            sizes = ", ".join(str(each) for each in sorted(self.costs))
            raise self.refusal(f"pictures of {width} x {height} pixels were not measured, only sides of {sizes}")
        return self.costs[size].scaled(area / size**2)


def cost_ms(steps: Steps, cost: EditCost) -> float:
    """Milliseconds of an edit of these steps, by itself."""
    total = cost.beside_ms
    for branches, shallow in zip(steps.branches, steps.shallow, strict=True):
        total += cost.whole(len(branches) - len(shallow)) + cost.shallow(len(shallow))
    return total


def in_words(options: Options) -> str:
    """What was chosen, for a person."""
    again = "".join(f", {name} {getattr(options, name)}" for name in EXACT if (getattr(options, name) or 1) > 1)
    return f"{options.steps} steps of {options.scheduler}{again}"
