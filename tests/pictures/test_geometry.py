"""Where pictures go: the three resizing rules, their caps, and that nothing is lost on the way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixrt.errors import PictureError
from pixrt.pictures.geometry import MAX_ASPECT, MAX_PIXELS, MAX_WORKING_PIXELS, check_size, plan_geometry
from pixrt.pictures.images import from_network, load_picture, to_network

sides = st.integers(1, 3000)


def allowed(width: int, height: int) -> bool:
    return max(width, height) <= MAX_ASPECT * min(width, height)


@given(sides, sides, st.sampled_from([16, 64, 256, 512, 768]), st.sampled_from([4, 8, 32, 64]))
def test_exact_gives_back_the_size_that_went_in(width: int, height: int, resolution: int, multiple: int) -> None:
    if not allowed(width, height):
        return
    geometry = plan_geometry(width, height, "exact", resolution=resolution, multiple=multiple)
    assert geometry.output == (width, height)
    assert geometry.crop == (0, 0, width, height)
    assert max(geometry.scaled) == resolution
    for scaled, padded in zip(geometry.scaled, geometry.padded, strict=True):
        assert 0 <= padded - scaled < multiple
        assert padded % multiple == 0
    # The shape is kept to within half a pixel of the short side.
    short, long = sorted((width, height))
    assert abs(min(geometry.scaled) - max(1, resolution * short / long)) <= 0.5


@given(sides, sides)
def test_fit_is_the_originals_rule_in_whole_numbers(width: int, height: int) -> None:
    if not allowed(width, height):
        return
    resolution = 512
    geometry = plan_geometry(width, height, "fit", resolution=resolution, multiple=8)
    # edit_cli.py: factor = R / max(w, h); factor = ceil(min(w, h) * factor / 64) * 64 / min(w, h); each side
    # int(side * factor) // 64 * 64. With exact fractions instead of floats:
    short, long = sorted((width, height))
    new_short = math.ceil(short * resolution / long / 64 - 1e-12) * 64
    new_long = long * new_short // short // 64 * 64
    assert sorted(geometry.output) == sorted((new_short, new_long))
    assert geometry.output == geometry.scaled == geometry.padded
    left, top, right, bottom = geometry.crop
    assert (left + right, top + bottom) == pytest.approx((width, height))
    assert (right - left) / (bottom - top) == pytest.approx(geometry.output[0] / geometry.output[1])


def test_the_originals_two_faults_are_mended() -> None:
    # Floats: 512x320. And a thin picture, which the original blows up to 64000 x 64, is refused.
    assert plan_geometry(1000, 667, "fit", resolution=512, multiple=8).output == (512, 384)
    with pytest.raises(PictureError, match="8 times"):
        check_size(10_000, 10, "it")
    thinnest = plan_geometry(800, 100, "fit", resolution=512, multiple=8)
    assert thinnest.output == (512, 64)


@given(sides, sides)
def test_floor8_is_diffusers_rule(width: int, height: int) -> None:
    if not allowed(width, height) or min(width, height) < 8 or width * height > MAX_WORKING_PIXELS:
        return
    geometry = plan_geometry(width, height, "floor8", resolution=512, multiple=8)
    assert geometry.output == geometry.padded == (width - width % 8, height - height % 8)


@pytest.mark.torch
def test_floor8_pixels_are_diffusers_pixels() -> None:
    processor = pytest.importorskip("diffusers.image_processor").VaeImageProcessor(vae_scale_factor=8)
    generator = np.random.default_rng(0)
    for width, height in ((64, 64), (75, 130), (201, 88)):
        image = Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))
        geometry = plan_geometry(width, height, "floor8", resolution=512, multiple=8)
        ours = to_network(load_picture(image), geometry)
        np.testing.assert_allclose(ours, processor.preprocess(image)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(5000, 5001), (1, 9), (90, 10_000), (10**6, 10**6), (0, 5)])
def test_caps(width: int, height: int) -> None:
    with pytest.raises(PictureError) as caught:
        check_size(width, height, "it")
    assert str(width) in caught.value.problem


def test_the_caps_themselves_pass() -> None:
    check_size(5000, MAX_PIXELS // 5000, "it")
    check_size(80, 10, "it")


def test_a_working_picture_too_large_or_too_small() -> None:
    with pytest.raises(PictureError, match=r"smaller resolution \(--resolution\)"):
        plan_geometry(3000, 3000, "exact", resolution=3000, multiple=8)
    with pytest.raises(PictureError, match="smaller than 8 x 8"):
        plan_geometry(7, 30, "floor8", resolution=512, multiple=8)
    with pytest.raises(PictureError, match="smaller than 64 x 64"):
        plan_geometry(30, 30, "fit", resolution=32, multiple=64)


@pytest.mark.parametrize("mode", ["exact", "fit", "floor8"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (100, 64), (37, 61), (256, 90)])
def test_an_edit_that_changes_nothing_gives_the_picture_back(mode: str, width: int, height: int) -> None:
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([128 + 90 * np.sin(x / 17), 128 + 90 * np.cos(y / 13), (x + y) * 200 / (width + height)], -1)
    picture = load_picture(smooth.astype(np.uint8))
    geometry = plan_geometry(width, height, mode, resolution=256, multiple=8)  # type: ignore[arg-type]
    pixels = to_network(picture, geometry)
    assert pixels.shape == (3, geometry.padded[1], geometry.padded[0])
    assert pixels.dtype == np.float32
    assert np.abs(pixels).max() <= 1
    back = from_network(pixels, geometry)
    assert back.size == geometry.output
    if back.size == (width, height):
        # Scaling a smooth picture up and down again costs up to two grey levels of 255 at the borders.
        assert np.abs(np.int16(back) - picture.rgb).max() <= 2
