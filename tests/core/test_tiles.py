"""Tiles: the windows and their weights, the same loop and the same VAE on them, and pictures without seams."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fakes import NumpyEngine
from pixrt import EditOptions, Editor, Job
from pixrt.core.timing import Stopwatch
from pixrt.core.track import make_track
from pixrt.errors import OptionError, PictureError
from pixrt.maths import tiles as tiles_module
from pixrt.maths.tiles import MIN_OVERLAP, Tiling, check_tile, make_tiling
from pixrt.pictures.geometry import MAX_WORKING_PIXELS
from pools import anchor_of, conditioning_of, pool_of, states_of, steps_from
from shapes import INVERT, SCENE, Run, pixels
from tiles import psnr, seams

SIZE, TILE = (40, 27), 16  # latents


class TestWindows:
    @given(st.integers(1, 200), st.integers(1, 200), st.integers(2 * MIN_OVERLAP, 64))
    def test_they_cover_the_plane_and_count_one_everywhere(self, height: int, width: int, tile: int) -> None:
        tiling = make_tiling((height, width), tile)
        assert tiling.window == (min(height, tile), min(width, tile))
        total = np.zeros(tiling.size)
        for window, weight in zip(tiling.windows(), tiling.weights(), strict=True):
            assert total[window].shape == tiling.window
            assert weight.min() > 0
            total[window] += weight
        np.testing.assert_allclose(total, 1, atol=1e-6)
        for firsts, part, side in zip((tiling.tops, tiling.lefts), tiling.window, tiling.size, strict=True):
            assert (firsts[0], firsts[-1] + part) == (0, side)
            assert all(one + part - other >= max(MIN_OVERLAP, tile // 4) for one, other in pairwise(firsts))

    def test_where_one_window_is_alone_its_weight_is_one(self) -> None:
        first, *_ = make_tiling((40, 16), 16).weights()
        np.testing.assert_array_equal(first[:8], 1)

    @pytest.mark.parametrize("tile", [0, 60, 66, -64, 64.0, True, "64"])
    def test_a_tile_that_is_none(self, tile: Any) -> None:
        with pytest.raises(OptionError, match="multiple of 4 pixels from 64 on"):
            check_tile(tile, 4, 4)


def pointwise(sample: NDArray[Any], timestep: NDArray[Any], context: NDArray[Any]) -> NDArray[np.float32]:
    """A function of every input at the position itself."""
    noisy, source = sample[:, :4].astype(np.float32), sample[:, 4:].astype(np.float32)
    text = context.astype(np.float32).mean(axis=(1, 2))[:, None, None, None]
    time = (timestep / 1000)[:, None, None, None]
    return np.tanh(0.7 * noisy + 0.3 * source.sum(1, keepdims=True) * text + 0.1 * time)


def states(tile: int | None, source: int, scheduler: str, dtype: str = "float32") -> list[NDArray[np.float32]]:
    """Of two pictures with other scales, pulled to anchors, on tiles of `tile` or on the whole, one after the other."""
    engine = NumpyEngine(pointwise, dtype, source)
    pool = pool_of(engine, 2, SIZE, make_tiling(SIZE, tile) if tile else None)
    tracks = [
        make_track(
            steps_from(scheduler, scales, 5, interval=(0.0, 0.7), steer=0.4),
            seed,
            conditioning_of(3, source, SIZE, anchor=anchor_of(seed, SIZE)),
            (4, *SIZE),
        )
        for seed, scales in ((1, (7.5, 1.5)), (2, (3.0, 1.0)))
    ]
    found = states_of(pool, tracks)
    sides = (min(SIZE[0], tile), min(SIZE[1], tile)) if tile else SIZE
    assert {sample.shape[2:] for sample in engine.samples} == {sides}
    return [state for picture in found for state in picture]


class TestLoop:
    @pytest.mark.parametrize("scheduler", ["ddim", "euler_ancestral", "dpmpp_2m", "pndm"])
    @pytest.mark.parametrize("source", [0, 4, 5])
    def test_a_network_without_neighbours_gives_the_same(self, scheduler: str, source: int) -> None:
        for tiled, whole in zip(states(TILE, source, scheduler), states(None, source, scheduler), strict=True):
            # A mean of equal outputs rounds once; guidance multiplies that by up to 7.5, and five steps carry it on.
            np.testing.assert_allclose(tiled, whole, atol=2e-6 * np.abs(whole).max())

    def test_in_fp16(self) -> None:
        tiled, whole = (states(tile, 4, "euler", "float16")[-1] for tile in (TILE, None))
        np.testing.assert_allclose(tiled, whole, atol=1e-3 * np.abs(whole).max())  # a bit of 11, guided by up to 7.5


def sheet() -> Image.Image:
    """Six scenes at `shapes`'s own size, 192 x 128, whose borders are not those of tiles."""
    with Image.open(SCENE) as one, Image.open(SCENE.with_name("scene-green.png")) as other:
        scenes = [one.convert("RGB"), other.convert("RGB")]
    made = Image.new("RGB", (192, 128))
    for number in range(12):
        x, y = number % 4, number // 4
        made.paste(scenes[(x + y) % 2].rotate(90 * number), (64 * x - 28, 64 * y - 20))
    return made


def in_range(image: Image.Image) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))


@pytest.fixture(scope="module")
def tiled() -> Iterator[Editor]:
    with Editor("shapes", backend="ort-cpu", threads=2, tile=64) as opened:
        yield opened


def joined_hard(firsts: Any, window: int, side: int) -> list[NDArray[np.float64]]:
    """Weights that join windows side by side: half of each overlap belongs to either."""
    middles = [0, *((one + window + other) // 2 for one, other in pairwise(firsts)), side]
    places = [np.arange(first, first + window) for first in firsts]
    return [np.float64((low <= p) & (p < high)) for p, (low, high) in zip(places, pairwise(middles), strict=True)]


class TestVae:
    """GroupNorm has other statistics in a window than in the whole picture, so latents and pixels differ."""

    def latents(self, editor: Editor, given: NDArray[np.float32]) -> NDArray[np.float32]:
        encoders = editor._networks.encoders
        encoders._sources.clear()
        return encoders.source(given, Stopwatch()) * np.float32(editor.manifest.latents.scaling)

    def picture(self, editor: Editor, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return editor._networks.encoders.decode(latents, Stopwatch())[0]

    def test_pictures_come_back(self, editor: Editor, tiled: Editor) -> None:
        """Latents differed by 2.6 % of their spread, pixels by 2.6 of 255. The model `shapes` knows pictures as large
        as a window: in windows a picture came back closer (7.8 of 255 off) than as a whole (8.9).
        """
        given = in_range(sheet())
        whole, in_tiles = (self.latents(each, given) for each in (editor, tiled))
        assert in_tiles.shape == whole.shape
        assert np.sqrt(np.mean((in_tiles - whole) ** 2)) < 0.05 * whole.std()
        one, other = self.picture(editor, whole), self.picture(tiled, in_tiles)
        assert np.abs(other - one).mean() * 127.5 < 4
        assert np.abs(other - given).mean() < np.abs(one - given).mean()

    def test_no_seam_shows(self, editor: Editor, tiled: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
        """The difference from the whole picture steps less at the borders of windows (0.0032) than elsewhere (0.0047).
        Joined side by side it steps there by 0.0303: the measure sees a seam.
        """
        latents = self.latents(editor, in_range(sheet()))
        whole = self.picture(editor, latents)
        tiling = make_tiling(latents.shape[1:], 16).scaled(4)
        at, elsewhere = seams((self.picture(tiled, latents) - whole).transpose(1, 2, 0), tiling)
        assert at < elsewhere
        monkeypatch.setattr(tiles_module, "_shares", joined_hard)
        middles = Tiling(tiling.size, tiling.size, (0, 48, 80), (0, 48, 80, 112, 144))  # of the overlaps
        at, elsewhere = seams((self.picture(tiled, latents) - whole).transpose(1, 2, 0), middles)
        assert at > 3 * elsewhere


class TestEdits:
    def test_an_edit_in_tiles(self, editor: Editor, tiled: Editor) -> None:
        """30.5 dB from the whole picture's edit, and nearer to the right answer (21.6 dB) than that is (21.3)."""
        picture = sheet().crop((0, 0, 160, 128))
        common: dict[str, Any] = {"steps": 6, "seed": 3, "resolution": 160}
        result, whole = tiled.edit(picture, INVERT, **common), editor.edit(picture, INVERT, **common)
        assert (result.network_rows, whole.network_rows) == (6 * 3 * 12, 6 * 3)
        assert (result.parameters["tile"], "tile" in whole.parameters) == (64, False)
        ours, theirs, right = pixels(result.image), pixels(whole.image), 255 - pixels(picture)
        assert psnr(ours, theirs) > 27
        assert psnr(ours, right) > psnr(theirs, right)
        at, elsewhere = seams(ours - theirs, make_tiling((32, 40), 16).scaled(4))
        assert at < elsewhere  # 0.75 and 1.02 of 255

    def test_a_picture_no_larger_than_the_tile_is_whole(self, editor: Editor, tiled: Editor, scene: Any) -> None:
        one, other = (each.edit(scene, INVERT, steps=2, seed=5) for each in (editor, tiled))
        np.testing.assert_array_equal(pixels(one.image), pixels(other.image))
        assert one.parameters == other.parameters

    def test_an_estimate_counts_windows(self) -> None:
        with Editor("shapes", backend="null", tile=64) as opened:
            job = Job(options=EditOptions(steps=4, resolution=160), image=sheet().crop((0, 0, 160, 128)), text="x")
            (estimate,) = opened.estimate(opened.check([job]))
            (result,) = opened.run(opened.check([job]))
        assert (estimate.windows, estimate.window_size, estimate.network_calls) == (12, (64, 64), 4 * 12)
        assert estimate.network_rows == result.network_rows == 4 * 12 * 3

    def test_the_cap_of_working_pictures(self) -> None:
        large = np.zeros((2000, 2200, 3), np.uint8)
        assert large.size > 3 * MAX_WORKING_PIXELS
        job = Job(options=EditOptions(resize="floor8"), image=large, text="x")
        with (
            Editor("shapes", backend="null") as opened,
            pytest.raises(PictureError, match=r"or work in tiles \(--tile\)"),
        ):
            opened.check([job])
        with Editor("shapes", backend="null", tile=512) as opened:
            (request,) = opened.check([job])
        assert request.geometry.padded == (2200, 2000)

    def test_the_flag(self, run: Run) -> None:
        words = ["edit", "scene.png", INVERT, "-o", "o.png", "--backend", "null", "--resolution", 160, "--seed", 1]
        done = run(*words, "--tile", 64, "--dry-run")
        assert "worked on at 160 x 160 in 16 tiles of 64 x 64, 320 network calls, 960 branch evaluations" in done.out
        assert run(*words, "--tile", 64, "-q").code == 0
        assert (
            "made in tiles of 64 pixels" in run("edit", "scene.png", "--from", "o.png", "-o", "p.png", *words[5:7]).err
        )
        refused = run(*words, "--tile", 50, "--overwrite")
        assert refused.code == 2
        assert "tile is 50" in refused.err
