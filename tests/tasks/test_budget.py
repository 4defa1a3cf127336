"""What budgets choose, and presets, against answers worked out by hand."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.backends import tuned
from pixrt.backends.registry import circumstances_of
from pixrt.backends.tuned import Curve, EditCost, Measured, Tuning
from pixrt.bundles.manifest import Manifest, RungSpec, parse_manifest
from pixrt.bundles.store import open_bundle
from pixrt.editor.editor import Editor
from pixrt.errors import OptionError
from pixrt.options.ladder import LADDER, LEVERS, preset_values
from pixrt.options.stored import options_from
from pixrt.options.tasks import EditOptions, Img2ImgOptions, Options
from pixrt.pictures.geometry import Geometry, plan_geometry
from pixrt.tasks.budget import Purse
from shapes import BLUE

SHAPES = open_bundle("shapes", verify=False).manifest
BRANCHES, NONE = frozenset({"branch_interval"}), frozenset[str]()
OWN = (RungSpec(10, "ddim", 5), RungSpec(9, "euler", 2, 3, "fast"), RungSpec(3, "unipc", 1, 1, "turbo"))
# 20 steps of three rows take 610 ms.
COST = EditCost(beside_ms=10, whole_ms=(10, 20, 30), shallow_ms=(1, 2, 3))


def manifest(**defaults: Any) -> Manifest:
    return dataclasses.replace(SHAPES, defaults=dataclasses.replace(SHAPES.defaults, **{"ladder": (), **defaults}))


def square(side: int) -> Geometry:
    return plan_geometry(side, side, "exact", resolution=side, multiple=4)


def choose(
    budget: int,
    levers: Collection[str] = LEVERS,
    *,
    kind: type[Options] = EditOptions,
    about: Manifest | None = None,
    size: int = 64,
    costs: dict[int, EditCost] | None = None,
    **said: Any,
) -> tuple[tuple[Any, ...], float]:
    about = about or manifest()
    asked = kind(budget_ms=budget, seed=1, **said)
    purse = Purse({64: COST} if costs is None else costs, levers, lambda why: OptionError(why, remedy="pixrt tune"))
    options, expected = purse.choose(asked, asked.resolve(about.defaults, levers), square(size), about)
    return (options.steps, options.scheduler, options.branch_interval, options.cache_interval), expected


@pytest.mark.parametrize(
    ("budget", "levers", "steps", "branches", "cache", "expected"),
    [
        (610, LEVERS, 20, 1, 1, 610),  # exact fits
        (609, LEVERS, 12, 1, 1, 370),
        (369, LEVERS, 8, 1, 1, 250),
        (249, LEVERS, 12, 2, 2, 10 + 6 * 30 + 6 * 1),  # of the odd steps' rows one is computed, by the shallow network
        (249, BRANCHES, 8, 2, 1, 10 + 4 * 30 + 4 * 10),
        (169, LEVERS, 4, 1, 1, 130),
        (129, BRANCHES, 4, 2, 1, 10 + 2 * 30 + 2 * 10),
        (89, LEVERS, 4, 2, 2, 10 + 2 * 30 + 2 * 1),
        (130, NONE, 4, 1, 1, 130),
    ],
)
def test_the_best_that_fits(
    budget: int, levers: Collection[str], steps: int, branches: int, cache: int, expected: float
) -> None:
    assert choose(budget, levers) == ((steps, "dpmpp_2m", branches, cache), pytest.approx(expected))
    assert choose(budget, levers) == choose(budget, levers)


def test_what_was_said_stays() -> None:
    assert choose(250, steps=10, scheduler="euler") == ((10, "euler", 2, 1), pytest.approx(10 + 5 * 30 + 5 * 10))
    assert choose(250, branch_interval=1, cache_interval=1)[0] == (8, "dpmpp_2m", 1, 1)
    with pytest.raises(OptionError, match=r"the least here, 12 steps of dpmpp_2m, takes 370 ms at 64 x 64"):
        choose(300, steps=12, branch_interval=1, cache_interval=1)
    one_row = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
    assert choose(210, **one_row) == ((20, "dpmpp_2m", 1, 1), 210)  # without guidance exact takes a row a step


def test_the_least_is_told() -> None:
    with pytest.raises(
        OptionError, match=r"budget_ms is 71, and the least here, 4 steps .*cache_interval 2, takes 72 ms"
    ) as told:
        choose(71)
    assert told.value.option == "budget_ms"
    with pytest.raises(OptionError, match=r"4 steps of dpmpp_2m, takes 130 ms"):
        choose(129, NONE)


def test_the_bundles_own_ladder() -> None:
    about = manifest(ladder=OWN)
    assert choose(150, about=about) == ((10, "ddim", 5, 1), 10 + 2 * 30 + 8 * 10)
    # Whole at steps 0, 3 and 6; at step 4 the two branches whose features are four steps old.
    assert choose(149, about=about) == ((9, "euler", 2, 3), 10 + 30 + 1 + 3 + 10 + (20 + 1) + 1 + 30 + 1 + 3)
    assert choose(149, BRANCHES, about=about) == ((3, "unipc", 1, 1), 100)
    with pytest.raises(OptionError, match="3 steps of unipc, takes 100 ms"):
        choose(20, about=about)
    assert parse_manifest(about.to_json(), "here") == about
    assert "ladder" not in manifest().to_json()  # so that an older pixrt reads it
    with pytest.raises(Exception, match=r"defaults.ladder\[0\].branch_interval is 0"):
        parse_manifest(manifest(ladder=(RungSpec(4, "ddim", 0),)).to_json(), "here")


def test_pictures_of_other_sizes_by_area() -> None:
    assert choose(344, size=48)[1] == pytest.approx(610 * 48**2 / 64**2)
    with pytest.raises(OptionError, match=r"128 x 128 pixels were not measured, only sides of 64"):
        choose(9999, size=128)
    both = {64: COST, 128: EditCost(beside_ms=0, whole_ms=(1, 2, 3))}
    assert choose(60, size=128, costs=both) == ((20, "dpmpp_2m", 1, 1), 60)
    with pytest.raises(OptionError, match="nothing was measured"):
        choose(9999, costs={})


def test_a_strength_that_leaves_no_step_of_few() -> None:
    about = dataclasses.replace(manifest(), unet_in_channels=4)
    assert choose(30, kind=Img2ImgOptions, about=about, strength=0.1, guidance_scale=2.0)[0][0] == 12


class TestPresets:
    @pytest.mark.parametrize(
        ("preset", "levers", "chosen"),
        [
            ("fast", LEVERS, (12, "dpmpp_2m", 2, 2)),
            ("fast", BRANCHES, (12, "dpmpp_2m", 2, 1)),
            ("fast", NONE, (8, "dpmpp_2m", 1, 1)),
            ("turbo", LEVERS, (8, "dpmpp_2m", 2, 3)),
            ("turbo", BRANCHES, (4, "dpmpp_2m", 2, 1)),
            ("turbo", NONE, (4, "dpmpp_2m", 1, 1)),
            ("quality", LEVERS, (50, "dpmpp_2m", 1, 1)),
            ("lcm", LEVERS, (4, "lcm", 1, 1)),
        ],
    )
    def test_by_what_can_be_used_again(self, preset: Any, levers: Collection[str], chosen: tuple[Any, ...]) -> None:
        found = EditOptions(preset=preset).resolve(manifest().defaults, levers)
        assert (found.steps, found.scheduler, found.branch_interval, found.cache_interval) == chosen

    def test_said_options_stay(self) -> None:
        said = {"steps": 30, "scheduler": "ddim", "branch_interval": 1, "cache_interval": 1, "guidance_scale": 3.0}
        for preset in ("fast", "turbo", "quality", "lcm"):
            found = EditOptions(preset=preset, **said).resolve(manifest().defaults)  # type: ignore[arg-type]
            assert {name: getattr(found, name) for name in said} == said

    def test_of_the_bundles_own_ladder(self) -> None:
        own = manifest(ladder=OWN).defaults
        assert preset_values("fast", own, LEVERS)["steps"] == 9
        assert preset_values("fast", own, BRANCHES) == preset_values("fast", manifest().defaults, BRANCHES)
        assert preset_values("turbo", own, NONE)["scheduler"] == "unipc"

    def test_never_more_steps_than_the_bundles_own_and_its_solver_if_distilled(self) -> None:
        few = manifest(steps=5, scheduler="lcm").defaults
        assert preset_values("fast", few, LEVERS) == {
            "steps": 5,
            "scheduler": "lcm",
            "branch_interval": 2,
            "cache_interval": 2,
        }

    def test_every_preset_runs_without_a_lever(self) -> None:
        for preset in ("fast", "turbo"):
            assert any(rung.preset == preset and rung.branch_interval == rung.cache_interval == 1 for rung in LADDER)

    def test_with_a_budget(self) -> None:
        with pytest.raises(OptionError, match="both choose"):
            EditOptions(preset="fast", budget_ms=100)


class TestHere:
    """Of an editor, by what `pixrt tune` kept."""

    @pytest.fixture(autouse=True)
    def _own_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def keep(self, cost: EditCost | None = COST, backend: str = "null") -> None:
        curve = (Curve(pictures=1, rows=3, p50_ms=5, least_ms=4, most_ms=6),)
        figures = {"edit_ms": 9.0, "least_ms": 9.0, "most_ms": 9.0, "levels": 0, "is_exact": True}
        each = Measured(backend=backend, precision="fp32", curve=curve, cost=cost, **figures)  # type: ignore[arg-type]
        now = circumstances_of(open_bundle("shapes", verify=False), None)
        tuned.keep(Tuning(circumstances=now, size=64, made="2026-01-01", measured=(each,)))

    def test_an_edit(self) -> None:
        self.keep()
        scene = np.zeros((64, 64, 3), np.uint8)
        with Editor("shapes", backend="null") as editor:
            assert editor.levers == BRANCHES
            result = editor.edit(scene, BLUE, seed=1, budget_ms=609)
            own = editor.manifest.defaults.ladder
            first = own[0] if own else LADDER[0]
            assert result.expected_ms is not None
            assert result.expected_ms <= 609
            assert (result.options.steps, result.options.scheduler) == (first.steps, first.scheduler)
            assert editor.edit(scene, BLUE, seed=1).expected_ms is None
        assert result.parameters["budget_ms"] == 609
        _, again = options_from(result.parameters, "it", EditOptions)
        assert again == dataclasses.replace(result.options, budget_ms=None)

    @pytest.mark.parametrize("kept", [None, {"backend": "openvino"}, {"cost": None}])
    def test_without_a_curve(self, kept: dict[str, Any] | None) -> None:
        if kept is not None:
            self.keep(**kept)
        with (
            Editor("shapes", backend="null") as editor,
            pytest.raises(OptionError, match=r"budget_ms is given, and what an edit takes here is not known") as told,
        ):
            editor.edit(np.zeros((64, 64, 3), np.uint8), BLUE, budget_ms=1000)
        assert (told.value.option, "pixrt tune" in str(told.value.remedy)) == ("budget_ms", True)

    def test_on_tiles(self) -> None:
        self.keep()
        with Editor("shapes", backend="null", tile=64) as editor, pytest.raises(OptionError, match="tiles"):
            editor.edit(np.zeros((64, 64, 3), np.uint8), BLUE, budget_ms=1000)
