"""Settings of less and less work, best first, and which of them a preset takes. Must not import numpy or Pillow.

A bundle may have its own, measured on it; `LADDER` is for all others. Both leave alone what the caller says.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

LEVERS = frozenset({"branch_interval", "cache_interval"})
"""What some bundles and backends cannot do: see `pixrt.maths.reuse`."""


class Rung(Protocol):
    """One setting; `preset` is the strictest that may take it, fast or turbo, or "" for none: only a budget then."""

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def scheduler(self) -> str: ...  # noqa: D102

    @property
    def branch_interval(self) -> int: ...  # noqa: D102

    @property
    def cache_interval(self) -> int: ...  # noqa: D102

    @property
    def preset(self) -> str: ...  # noqa: D102


class GeneralRung(NamedTuple):
    """A rung of the ladder for every bundle."""

    steps: int
    branch_interval: int = 1
    cache_interval: int = 1
    preset: str = ""
    scheduler: str = "dpmpp_2m"


# In rows of three branches, 60 at 20 steps: 36, 24, 24, 18.7, 16, 12, 8, 9.8, 6.2. More steps than the measured model
# needs for that work, as others need more. A branch's difference serves two steps, no more: with one that serves all of
# them the measured edits fail. What has no interval is for the fused step.
LADDER: Sequence[Rung] = (
    GeneralRung(12),
    GeneralRung(8, preset="fast"),
    GeneralRung(12, 2, preset="fast"),
    GeneralRung(12, 2, 2, preset="fast"),
    GeneralRung(8, 2),
    GeneralRung(4, preset="turbo"),
    GeneralRung(4, 2, preset="turbo"),
    GeneralRung(8, 2, 3, preset="turbo"),  # more work than the one before, and nearer to the exact edit
    GeneralRung(4, 2, 2),
)
MEASURED_PRESETS = {"fast": ("fast",), "turbo": ("fast", "turbo")}
"""Of which names each takes the last rung that can run."""


class HasLadder(Protocol):
    """A bundle's defaults."""

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def scheduler(self) -> str: ...  # noqa: D102

    @property
    def ladder(self) -> Sequence[Rung]: ...  # noqa: D102


def climb(defaults: HasLadder, levers: Collection[str]) -> list[dict[str, Any]]:
    """What each rung sets that can run here, best first: the bundle's own, else those for every bundle."""
    return [_values(rung, defaults) for rung in defaults.ladder or LADDER if _runs(rung, levers)]


def preset_values(preset: str, defaults: HasLadder, levers: Collection[str]) -> Mapping[str, Any]:
    """What a preset of the ladder sets: the last of its rungs that can run, of the bundle's own or else of all's."""
    for ladder in (defaults.ladder, LADDER):
        named = [rung for rung in ladder if rung.preset in MEASURED_PRESETS[preset] and _runs(rung, levers)]
        if named:
            return _values(named[-1], defaults)
    raise AssertionError(preset)  # the general ladder has a rung for each that needs no lever


def _runs(rung: Rung, levers: Collection[str]) -> bool:
    return all(name in levers or getattr(rung, name) == 1 for name in LEVERS)


def _values(rung: Rung, defaults: HasLadder) -> dict[str, Any]:
    """Never more steps than the bundle's own; and who was distilled for a solver keeps it."""
    return {
        "steps": min(rung.steps, defaults.steps),
        "scheduler": defaults.scheduler if defaults.scheduler == "lcm" else rung.scheduler,
        "branch_interval": rung.branch_interval,
        "cache_interval": rung.cache_interval,
    }
