"""Which network runs the loop, and on which windows, with what a backend has engines for."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import Exports
from peft_loras import make_lora
from pixrt import Editor, Job
from pixrt.backends.null import NullBackend
from pixrt.backends.registry import Opened
from pixrt.bundles.engine_spec import SizeRange
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle, open_bundle
from pixrt.core.windows import Capacity, Windows
from pixrt.errors import EngineError
from pixrt.options.tasks import GenerateOptions
from shapes import pixels


class BuiltBackend(NullBackend):
    """Has engines for some shapes only: by component, (min, max) of its first input; by name those of others."""

    def __init__(self, built: dict[Any, Any], missing: Iterable[Component] = ()) -> None:
        super().__init__()
        self._built, self._missing = built, missing

    def shapes(
        self, bundle: Bundle, component: Component, *, refit: bool = False, tensor: str | None = None
    ) -> tuple[SizeRange, ...]:
        built = self._built.get(component, ()) if tensor is None else self._built.get(tensor, ())
        return tuple(SizeRange(low, high, high) for low, high in built)

    def problem(self, bundle: Bundle, component: Component, *, refit: bool = False) -> str | None:
        return f"there is no engine of {component}" if component in self._missing else None


UNET, STEP, ENCODER = Component.UNET, Component.UNET_STEP, Component.VAE_ENCODER
STATIC = ((3, 8, 64, 64), (3, 8, 64, 64))
DYNAMIC = ((1, 8, 32, 32), (6, 8, 64, 96))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle("shapes", verify=False)


def windows_of(bundle: Bundle, built: dict[Any, Any], unet: Component = UNET, **given: Any) -> Windows:
    return Windows(bundle, BuiltBackend(built, given.pop("missing", ())), unet, given.pop("tile", None))


class TestTheLargestSquareThatAnEngineTakes:
    @pytest.mark.parametrize(
        ("built", "size", "window"),
        [
            ([], (200, 300), (200, 300)),  # any shape is taken
            ([STATIC], (64, 64), (64, 64)),
            ([STATIC], (100, 65), (64, 64)),
            ([DYNAMIC], (64, 96), (64, 96)),
            ([DYNAMIC], (65, 96), (64, 64)),
            ([DYNAMIC], (40, 200), (40, 96)),  # no square is as high as the picture is wide
            ([DYNAMIC, STATIC], (200, 200), (64, 64)),
            ([STATIC], (40, 200), (40, 200)),  # no window is 64 high: what has no engine says so itself
            ([((1, 8, 8, 8), (9, 8, 8, 8))], (40, 40), (40, 40)),  # smaller than two overlaps
        ],
    )
    def test_of_the_unet(self, bundle: Bundle, built: Any, size: Any, window: Any) -> None:
        work = windows_of(bundle, {UNET: built}).work(3, size, ())
        assert (work.network, work.tiling.window) == (UNET, window)

    def test_of_the_branches_of_a_picture(self, bundle: Bundle) -> None:
        windows = windows_of(bundle, {UNET: [((1, 8, 32, 32), (2, 8, 64, 96))]})
        assert windows.work(2, (128, 128), ()).tiling.window == (64, 64)
        assert windows.work(3, (128, 128), ()).tiling.window == (128, 128)  # no engine has so many rows

    @pytest.mark.parametrize(
        ("built", "capacity"),
        [
            ([], Capacity(4, 12, ())),
            ([STATIC], Capacity(4, 3, ((3, 3),))),
            ([DYNAMIC], Capacity(4, 6, ((1, 6),))),
            (
                [STATIC, DYNAMIC],
                Capacity(
                    4,
                    6,
                    (
                        (3, 3),
                        (1, 6),
                    ),
                ),
            ),
            ([((16, 8, 64, 64), (16, 8, 64, 64))], Capacity(4, 12, ((16, 16),))),
        ],
    )
    def test_how_many_rows_a_pool_has(self, bundle: Bundle, built: Any, capacity: Capacity) -> None:
        windows = windows_of(bundle, {UNET: built})
        assert windows.capacity(windows.work(3, (64, 64), ()), 4, 3, ()) == capacity

    def test_of_the_encoder_in_pixels(self, bundle: Bundle) -> None:
        windows = windows_of(bundle, {ENCODER: [((1, 3, 64, 64), (1, 3, 128, 128))]})
        assert windows.tiling(ENCODER, (40, 40), (1, 3), refit=False).window == (32, 32)
        assert windows.tiling(Component.VAE_DECODER, (40, 40), (1, 4), refit=False).count == 1

    def test_a_tile_that_is_asked_for_comes_first(self, bundle: Bundle) -> None:
        work = windows_of(bundle, {UNET: [STATIC]}, tile=128).work(3, (40, 40), ())
        assert (work.tiling.window, work.tiling.count) == ((32, 32), 4)


class TestTheFusedStep:
    BUILT = ((1, 4, 64, 64), (1, 4, 64, 64))

    def test_runs_what_it_takes_whole(self, bundle: Bundle) -> None:
        work = windows_of(bundle, {STEP: [self.BUILT], UNET: [STATIC]}, STEP).work(3, (64, 64), ())
        assert (work.network, work.tiling.count) == (STEP, 1)

    def test_gives_way_to_the_unet_if_it_does_not(self, bundle: Bundle) -> None:
        windows = windows_of(bundle, {STEP: [self.BUILT], UNET: [STATIC]}, STEP)
        work = windows.work(3, (100, 100), ())
        assert (work.network, work.tiling.window) == (UNET, (64, 64))
        tiled = windows_of(bundle, {}, STEP, tile=64)
        assert tiled.work(3, (16, 16), ()).network is STEP
        assert tiled.work(3, (16, 17), ()).network is UNET

    def test_without_the_unet(self, bundle: Bundle) -> None:
        windows = windows_of(bundle, {STEP: [self.BUILT]}, STEP, missing={UNET})
        with pytest.raises(EngineError, match=r"400 x 260 needs tiles, .* there is no engine of unet") as caught:
            windows.work(3, (65, 100), ())
        assert "--component unet" in caught.value.remedy

    @pytest.mark.parametrize(
        ("slots", "capacity"),
        [
            (
                1,
                Capacity(
                    1,
                    3,
                    (
                        (3, 3),
                        (1, 9),
                    ),
                ),
            ),
            (2, Capacity(2, 6, ((1, 9),))),
            (8, Capacity(3, 9, ((1, 9),))),
        ],
    )
    def test_how_many_slots_a_pool_has(self, bundle: Bundle, slots: int, capacity: Capacity) -> None:
        """One picture has the static engine too; more have the dynamic one, and no more than that takes."""
        built = {
            STEP: [self.BUILT, ((1, 4, 32, 32), (3, 4, 64, 64))],
            "context": [((3, 77, 64), (3, 77, 64)), ((1, 77, 64), (9, 77, 64))],
        }
        windows = windows_of(bundle, built, STEP)
        assert windows.capacity(windows.work(3, (64, 64), ()), slots, 3, ()) == capacity

    @pytest.mark.torch
    def test_with_loras(self, exports: Exports, tmp_path: Path) -> None:
        """The plain UNet has the fused step's; where a picture is no larger than the tile the fused step runs."""
        folder = exports.bundle("sd1", "fp32")
        lora = make_lora(exports.checkpoint("sd1"), tmp_path, seed=4)
        picture = np.full((128, 160, 3), 90, np.uint8)
        picture[30:90, 50:120] = (200, 30, 60)
        made = []
        for fused in (False, True):
            with Editor(folder, backend="ort-cpu", threads=1, fused_step=fused, tile=128) as opened:
                for loras in ([], [(lora, 2.0)], []):
                    opened.set_loras(loras)
                    result = opened.edit(picture, "x", steps=2, seed=4, resolution=160)
                    assert result.network_rows == 2 * 3 * 2
                    made.append(pixels(result.image))
                assert STEP not in opened._networks.open
                opened.edit(picture[:64, :64], "x", steps=1, seed=1)
                assert (STEP in opened._networks.open) == fused
        for plain, in_its_place in zip(made[:3], made[3:], strict=True):
            np.testing.assert_array_equal(plain, in_its_place)
        assert np.abs(made[0] - made[1]).max() > 1
        np.testing.assert_array_equal(made[0], made[2])


def test_a_whole_edit_in_the_tiles_of_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = BuiltBackend({UNET: [((1, 8, 16, 16), (6, 8, 32, 32))]})
    monkeypatch.setattr("pixrt.editor.runner.open_backend", lambda *_: Opened(backend, ()))
    with Editor("shapes") as opened:
        job = Job(options=GenerateOptions(steps=2, width=256, height=128), text="x")
        (estimate,) = opened.estimate(opened.check([job]))
        (result,) = opened.run(opened.check([job]))
    assert (estimate.windows, estimate.window_size) == (3, (128, 128))
    assert (result.parameters["tile"], result.network_rows) == (128, estimate.network_rows)
