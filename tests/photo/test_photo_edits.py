"""Edits of photographs: sizes and ranges, what changes nothing, and the same computed by other means."""

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

pytest.importorskip("scipy")

from pixrt_export.photo.edits import KINDS, NAMES, SCALED, TONES, Edit
from pixrt_export.photo.instructions import ALL_KINDS, SLIGHT, STRONG, Instruction, has_strengths
from pixrt_export.photo.pixels import from_hsv, hsv, to_picture, to_pixels
from pixrt_export.photo.procedural import procedural
from pixrt_export.photo.tones import HUES

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> Picture:
    """Leaves and textures, of sides that nothing divides, with the hue of every swap in a corner."""
    made = to_picture(procedural(np.random.default_rng(3), 67))[:, :53].copy()
    for number, hue in enumerate(HUES.values()):
        made[-10:, 10 * number : 10 * number + 10] = np.multiply(colorsys.hsv_to_rgb(hue / 360, 0.8, 0.9), 255)
    return made


@pytest.fixture(scope="module")
def smooth() -> Picture:
    """A picture whose details are far larger than a pixel."""
    small = to_picture(procedural(np.random.default_rng(5), 32))
    return np.asarray(Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC))


def worst(one: Picture, other: Picture | Image.Image) -> int:
    return int(np.abs(one.astype(int) - np.asarray(other).astype(int)).max())


def test_there_are_at_least_24_kinds() -> None:
    assert len(KINDS) >= 24
    assert len(ALL_KINDS) == len(set(ALL_KINDS))


@pytest.mark.parametrize("name", NAMES)
def test_every_edit_keeps_the_size_and_changes_the_picture(picture: Picture, name: str) -> None:
    before = picture.copy()
    edited = Edit(name).apply(picture)
    assert edited.shape == picture.shape
    assert edited.dtype == np.uint8
    assert worst(edited, picture) > 16
    assert np.array_equal(edited, Edit(name).apply(picture))
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("name", NAMES)
def test_strength_0_changes_nothing(picture: Picture, name: str) -> None:
    assert worst(Edit(name, 0.0).apply(picture), picture) <= 1


@pytest.mark.parametrize("name", [name for name in NAMES if has_strengths(Edit(name).kind)])
def test_a_stronger_edit_is_further_away(picture: Picture, name: str) -> None:
    away = [
        float(np.abs(Edit(name, strength).apply(picture).astype(int) - picture).mean())
        for strength in (SLIGHT, 1.0, STRONG)
    ]
    assert away[0] < away[1] < away[2]


@pytest.mark.parametrize("name", TONES)
def test_tones_know_nothing_of_the_neighbourhood(picture: Picture, name: str) -> None:
    assert np.array_equal(Edit(name).apply(picture[::-1, ::-1])[::-1, ::-1], Edit(name).apply(picture))


@pytest.mark.parametrize("name", ["black and white", "pixelate"])
def test_a_second_time_changes_nothing(picture: Picture, name: str) -> None:
    once = Edit(name).apply(picture)
    assert worst(Edit(name).apply(once), once) <= 1


def test_two_inversions_are_none(picture: Picture) -> None:
    assert worst(Instruction((Edit("invert"), Edit("invert"))).apply(picture), picture) == 0


@pytest.mark.parametrize("name", SCALED)
def test_a_larger_picture_of_a_larger_scale_shows_the_same(smooth: Picture, name: str) -> None:
    """The edit of the picture at three times its size, scaled down, against the edit of the picture."""
    large = np.asarray(Image.fromarray(smooth).resize((288, 288), Image.Resampling.BICUBIC))
    shown = Image.fromarray(Edit(name).apply(large, scale=3)).resize((96, 96), Image.Resampling.BOX)
    error = np.asarray(shown).astype(float) - Edit(name).apply(smooth)
    # Rich paint multiplies what is different, too: contrast by 1.4, colours by that and saturation.
    assert np.sqrt((error**2).mean()) < 6 * (1.4**2 if name == "oil painting" else 1)


def gaussian(picture: Picture, deviation: float) -> NDArray[np.float64]:
    """A Gaussian written out, to three deviations, over a picture that goes on as it ends at its edges."""
    reach = int(3 * deviation + 0.5)
    at = np.arange(-reach, reach + 1)
    kernel = np.exp(-(at**2) / (2 * deviation**2))
    kernel /= kernel.sum()
    blurred = picture.astype(float)
    for axis in (0, 1):
        padded = np.pad(blurred, [(reach, reach) if k == axis else (0, 0) for k in range(3)], mode="edge")
        blurred = np.apply_along_axis(lambda line: np.convolve(line, kernel, "valid"), axis, padded)
    return blurred


class TestAgainstOthers:
    def test_black_and_white(self, picture: Picture) -> None:
        assert worst(Edit("black and white").apply(picture)[..., 0], ImageOps.grayscale(Image.fromarray(picture))) <= 1

    def test_invert(self, picture: Picture) -> None:
        assert worst(Edit("invert").apply(picture), ImageOps.invert(Image.fromarray(picture))) == 0

    def test_saturation(self, picture: Picture) -> None:
        expected = ImageEnhance.Color(Image.fromarray(picture)).enhance(2)
        assert worst(Edit("more saturated").apply(picture), expected) <= 2

    def test_pixelate(self, smooth: Picture) -> None:
        expected = (
            Image.fromarray(smooth).resize((12, 12), Image.Resampling.BOX).resize((96, 96), Image.Resampling.NEAREST)
        )
        assert worst(Edit("pixelate").apply(smooth), expected) <= 1

    def test_blur_is_that_of_a_kernel(self, picture: Picture) -> None:
        assert worst(Edit("blur").apply(picture), np.rint(gaussian(picture, 2.5)).astype(np.uint8)) <= 1

    def test_posterise(self, picture: Picture) -> None:
        """Ten times the contrast of the picture blurred by a Gaussian of 2 pixels, written out."""
        expected = 127.5 + 10 * (gaussian(picture, 2.0) - 127.5)
        assert worst(Edit("posterise").apply(picture), np.rint(expected.clip(0, 255)).astype(np.uint8)) <= 1

    def test_oil_is_the_quietest_of_four_squares_in_rich_paint(self, picture: Picture) -> None:
        """Kuwahara's filter written out at some inner pixels, then 1.4 times the saturation and contrast."""
        oily, light = Edit("oil painting").apply(picture), to_pixels(picture) @ np.array([0.299, 0.587, 0.114])
        for y, x in ((10, 10), (20, 33), (31, 17), (45, 40), (25, 25)):
            squares = [
                np.s_[y + down : y + down + 7, x + right : x + right + 7] for down in (-6, 0) for right in (-6, 0)
            ]
            quietest = min(squares, key=lambda square: light[square].var())
            paint = picture[quietest].mean(axis=(0, 1))
            gray = paint @ np.array([0.299, 0.587, 0.114])
            rich = 127.5 + 1.4 * (gray + 1.4 * (paint - gray) - 127.5)
            assert np.abs(oily[y, x] - rich.clip(0, 255)).max() <= 1

    def test_hues(self) -> None:
        rng = np.random.default_rng(0)
        pixels = rng.random((1, 200, 3), np.float32)
        hue, saturation, value = hsv(pixels)
        expected = np.array([colorsys.rgb_to_hsv(*map(float, pixel)) for pixel in pixels[0]])
        assert np.allclose(np.stack([hue[0] / 360, saturation[0], value[0]], axis=1), expected, atol=1e-5)
        assert np.allclose(from_hsv(hue, saturation, value), pixels, atol=1e-5)

    def test_turning_red_blue_leaves_gray_and_green_alone(self) -> None:
        row = np.array([[[200, 30, 30], [120, 120, 120], [30, 200, 30]]], np.uint8)
        turned = Edit("turn red blue").apply(row)[0]
        assert turned[0, 2] == 200 > turned[0, 0]
        assert np.array_equal(turned[1:], row[0, 1:])
