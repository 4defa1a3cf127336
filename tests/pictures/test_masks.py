"""Masks: what is read from which picture, the region around them, in the networks' sizes, and edits put back."""

import io
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pixrt.errors import PictureError
from pixrt.pictures.geometry import MAX_ASPECT, check_size, plan_geometry
from pixrt.pictures.images import load_picture, to_network
from pixrt.pictures.masks import (
    Mask,
    feather,
    hard,
    is_of_white_strokes,
    load_mask,
    mask_region,
    paste,
    to_latents,
    to_working,
)

sides = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)
FULL = np.uint8(255)


def a_mask(width: int, height: int, seed: int, share: float = 0.1) -> Mask:
    """A box and specks, as full as can be."""
    generator = np.random.default_rng(seed)
    mask = generator.random((height, width)) < share
    left, top = generator.integers(width), generator.integers(height)
    mask[top : top + generator.integers(1, height // 2 + 2), left : left + generator.integers(1, width // 2 + 2)] = True
    return mask * FULL


GREY = a_mask(24, 16, 3)
MASK = GREY > 0
SOFT = np.arange(256, dtype=np.uint8).reshape(16, 16)


def png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def transparent(alpha: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.stack([np.full_like(alpha, 90)] * 3 + [alpha], -1).astype(np.uint8))


def test_white_or_true_is_edited(tmp_path: Any) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(GREY).save(path)
    opaque = Image.fromarray(GREY).convert("RGBA")
    for source in (path, str(path), path.read_bytes(), Image.fromarray(MASK), opaque, GREY, GREY / 255, MASK):
        mask = load_mask(source, (24, 16))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, GREY)
        np.testing.assert_array_equal(load_mask(source, (24, 16), inverted=True), 255 - GREY)
    load_mask(MASK, (24, 16))[:] = 0
    assert MASK.any()  # the caller's array stays theirs
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone's picture, stored on its side
    np.testing.assert_array_equal(
        load_mask(png(Image.fromarray(GREY).rotate(90, expand=True), exif=exif), (24, 16)), GREY
    )


def test_transparent_is_edited() -> None:
    np.testing.assert_array_equal(load_mask(png(transparent(np.where(MASK, 0, 255))), (24, 16)), GREY)
    np.testing.assert_array_equal(load_mask(png(transparent(np.where(MASK, 0, 255))), (24, 16), inverted=True), ~GREY)


def test_what_is_between_acts_in_proportion() -> None:
    expected = np.where(SOFT <= 7, 0, np.where(SOFT >= 248, 255, SOFT))
    for source in (SOFT, SOFT / 255, Image.fromarray(SOFT), png(transparent(255 - SOFT))):
        np.testing.assert_array_equal(load_mask(source, (16, 16)), expected)
        np.testing.assert_array_equal(load_mask(source, (16, 16), inverted=True), 255 - expected)


def test_traces_of_jpeg_select_nothing() -> None:
    file = io.BytesIO()
    boxes = np.zeros((64, 64), np.uint8)
    boxes[16:48, 16:48] = 255  # along the blocks of eight
    Image.fromarray(boxes).save(file, "JPEG", quality=75)
    np.testing.assert_array_equal(load_mask(file.getvalue(), (64, 64)), boxes)


def test_white_strokes_on_transparency_are_noticed() -> None:
    strokes = np.zeros((16, 16, 4), np.uint8)
    strokes[4:8] = 255
    others = strokes.copy()
    others[4:8, :8, :3] = 0
    assert is_of_white_strokes(Image.fromarray(strokes))
    for source in (Image.fromarray(others), SOFT, Image.fromarray(SOFT), SOFT > 9, transparent(SOFT)):
        assert not is_of_white_strokes(source)


@pytest.mark.torch
def test_the_threshold_of_networks_that_see_the_mask_is_diffusers() -> None:
    processor = pytest.importorskip("diffusers.image_processor").VaeImageProcessor(
        vae_scale_factor=1, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for image in (Image.fromarray(colours), Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))):
        expected = processor.preprocess(image)[0, 0].numpy() > 0
        np.testing.assert_array_equal(hard(load_mask(image, image.size)), expected)


def test_a_weak_mask_is_better_than_none() -> None:
    np.testing.assert_array_equal(hard(GREY // 3), MASK)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (GREY.T, r"16 x 24 pixels, its picture 24 x 16"),
        (MASK[:, :, None], r"shape \[16, 24, 1\]"),
        (MASK & False, "selects nothing: True"),
        (GREY * 0 + 7, r"selects nothing: it has no transparency.*white"),
        (transparent(GREY * 0 + 254), r"selects nothing: it has transparency.*what is transparent is"),
        (b"", "the mask cannot be used: the picture"),
        (5, "the mask cannot be used"),
    ],
)
def test_masks_that_are_refused(source: Any, match: str) -> None:
    with pytest.raises(PictureError, match=match) as caught:
        load_mask(source, (24, 16))
    assert "\n" not in str(caught.value)
    assert caught.value.option == "mask"


def test_a_refused_file_is_named(tmp_path: Any) -> None:
    Image.fromarray(GREY).save(tmp_path / "small.png")
    with pytest.raises(PictureError, match=r"the mask \S*small\.png is 24 x 16 pixels, its picture 48 x 32"):
        load_mask(tmp_path / "small.png", (48, 32))


@given(sides, sides, seeds, st.integers(0, 12), sides, sides)
def test_the_region_holds_the_mask(width: int, height: int, seed: int, padding: int, across: int, down: int) -> None:
    mask = a_mask(width, height, seed, 0)
    left, top, right, bottom = mask_region(mask, padding, (across, down))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    y, x = np.nonzero(mask)
    for low, high, at, side in ((left, right, x, width), (top, bottom, y, height)):
        assert low <= max(at.min() - padding, 0)
        assert high >= min(at.max() + 1 + padding, side)
    # To within a pixel the working shape, unless the picture ends first.
    wanted = Fraction(across, down)
    if right - left > wanted * (bottom - top):
        assert bottom - top == height or right - left < wanted * (bottom - top) + 1
    else:
        assert right - left == width or bottom - top < (right - left) / wanted + 1
    if max(width, height) <= MAX_ASPECT * min(width, height) and max(across, down) <= MAX_ASPECT * min(across, down):
        check_size(right - left, bottom - top, "the region")


@pytest.mark.torch
@given(
    st.integers(1, 60), st.integers(1, 60), seeds, st.integers(0, 12), st.sampled_from([(64, 64), (96, 64), (8, 40)])
)
def test_the_region_is_diffusers(width: int, height: int, seed: int, padding: int, working: tuple[int, int]) -> None:
    crop = pytest.importorskip("diffusers.image_processor").VaeImageProcessor.get_crop_region
    mask = a_mask(width, height, seed, 0)
    ours, theirs = mask_region(mask, padding, working), crop(Image.fromarray(mask), *working, pad=padding)
    for axis in (0, 1):
        length, diffusers_length = ours[axis + 2] - ours[axis], theirs[axis + 2] - theirs[axis]
        assert 0 <= length - diffusers_length <= 1  # rounded up, not down
        if length == diffusers_length:
            assert (ours[axis], ours[axis + 2]) == (theirs[axis], theirs[axis + 2])


@pytest.mark.parametrize("mode", ["exact", "fit", "floor8"])
@settings(max_examples=30)
@given(st.integers(16, 70), st.integers(16, 70), seeds)
def test_a_working_pixel_may_change_where_what_it_covers_may(mode: Any, width: int, height: int, seed: int) -> None:
    mask = a_mask(width, height, seed)
    geometry = plan_geometry(width, height, mode, resolution=48, multiple=8)
    working = to_working(mask, geometry)
    assert working.shape == geometry.padded[::-1]
    # In exact arithmetic, pixel by pixel.
    left, top, right, bottom = map(Fraction, geometry.crop)
    (across, down), seen = geometry.scaled, np.zeros(geometry.scaled[::-1], bool)
    near = Fraction(1, 10**5)
    for y, x in zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True):
        row = [(Fraction(v) - top) * down / (bottom - top) for v in (y + near, y + 1 - near)]
        column = [(Fraction(v) - left) * across / (right - left) for v in (x + near, x + 1 - near)]
        spans = [slice(max(int(low // 1), 0), max(int(-(-high // 1)), 0)) for low, high in (row, column)]
        seen[spans[0], spans[1]] = True
    np.testing.assert_array_equal(working[:down, :across], seen * FULL)


def test_a_thin_mask_does_not_vanish() -> None:
    mask = np.zeros((1000, 1500), np.uint8)
    mask[777, 1234] = 255
    working = to_working(mask, plan_geometry(1500, 1000, "exact", resolution=48, multiple=8))
    assert np.argwhere(working).tolist() == [[24, 39]]
    assert np.argwhere(to_latents(working, 8)).tolist() == [[0, 3, 4]]


def test_the_working_mask_is_mirrored_as_the_picture_is() -> None:
    geometry = plan_geometry(45, 30, "exact", resolution=45, multiple=16)
    mask = a_mask(45, 30, 5)
    picture = load_picture(np.repeat(mask[:, :, None], 3, 2))
    np.testing.assert_array_equal(to_working(mask, geometry) > 0, to_network(picture, geometry)[0] > 0)


def test_a_mask_outside_the_crop_is_refused() -> None:
    with pytest.raises(PictureError, match="selects nothing between"):
        to_working((np.arange(100) < np.ones((64, 1))) * FULL, plan_geometry(100, 64, "fit", resolution=64, multiple=8))


@pytest.mark.torch
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 8]), seeds)
def test_latents_of_masks_along_the_blocks_are_diffusers(width: int, height: int, scale: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    working = np.kron(a_mask(width, height, seed), np.ones((scale, scale), np.uint8))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(working[None, None].astype("f4") / 255), size=(height, width)
    )
    np.testing.assert_array_equal(to_latents(working, scale), expected[0].numpy())


@given(sides, sides, st.sampled_from([1, 2, 5]), seeds)
def test_one_pixel_opens_its_latent(width: int, height: int, scale: int, seed: int) -> None:
    working = a_mask(width * scale, height * scale, seed, 0.02)
    expected = np.zeros((1, height, width), np.float32)
    y, x = np.nonzero(working)
    expected[0, y // scale, x // scale] = 1
    latents = to_latents(working, scale)
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents, expected)
    half = to_latents(working // 2, scale)
    np.testing.assert_array_equal(half, expected * np.float32(127 / 255))


@given(sides, sides, seeds, st.integers(0, 12))
def test_a_feathered_mask(width: int, height: int, seed: int, depth: int) -> None:
    full = a_mask(width, height, seed, 0.02)
    mask, opacity = full > 0, feather(full, depth)
    assert (opacity.dtype, opacity.max()) == (np.uint8, 255)
    # Of a soft mask in proportion, to the nearest.
    some = (full // 255) * np.uint8(100)
    np.testing.assert_array_equal(feather(some, depth), np.rint(opacity * (100 / 255)))
    assert ((opacity > 0) == mask).all()
    outside, inside = np.argwhere(~mask), np.argwhere(mask)
    if not len(outside):
        assert (opacity == 255).all()
        return
    # One by one: a diagonal step counts for 4/3, which is within 6 % of the Euclidean distance.
    apart = np.abs(inside[:, None] - outside[None])
    thirds = (2 * apart.max(-1) + apart.sum(-1)).min(1)
    assert np.abs(thirds / 3 / np.sqrt(np.square(apart).sum(-1).min(1)) - 1).max() < 0.06
    deepest = min(3 * (depth + 1), thirds.max())
    np.testing.assert_array_equal(opacity[mask], np.rint(np.minimum(thirds, deepest) * (255 / deepest)))


def test_a_feather_of_a_straight_edge_by_hand() -> None:
    mask = np.full((9, 8), 255, np.uint8)
    mask[:, :2] = 0
    np.testing.assert_array_equal(feather(mask, 0), mask)
    np.testing.assert_array_equal(feather(mask, 3)[4], [0, 0, 64, 128, 191, 255, 255, 255])
    # Six pixels deep: a ramp of more would leave nothing of the edit.
    np.testing.assert_array_equal(feather(mask, 100_000)[4], [0, 0, 42, 85, 128, 170, 212, 255])
    assert (feather(mask * 0, 3) == 0).all()


@given(sides, sides, seeds, st.integers(0, 6))
def test_pasted_pixels(width: int, height: int, seed: int, depth: int) -> None:
    generator = np.random.default_rng(seed)
    original = generator.integers(0, 256, (height, width, 3), np.uint8)
    mask = a_mask(width, height, seed, 0.02)
    left, top, right, bottom = box = mask_region(mask, 1, (3, 2))
    edited = generator.integers(0, 256, (bottom - top, right - left, 3), np.uint8)
    opacity = feather(mask, depth)
    original.setflags(write=False)
    pasted, alpha = paste(original, edited, box, opacity)
    assert alpha is None
    whole = original.copy()
    whole[top:bottom, left:right] = edited
    share = opacity[:, :, None] / 255
    np.testing.assert_array_equal(pasted, np.rint(whole * share + original * (1 - share)).astype(np.uint8))
    np.testing.assert_array_equal(pasted[mask == 0], original[mask == 0])
    np.testing.assert_array_equal(pasted[opacity == 255], whole[opacity == 255])


def test_every_opacity_of_every_pair_of_bytes_is_rounded_right() -> None:
    # More rows than are pasted at a time, and a box that does not begin at the top.
    new, old = (np.tile(side.astype(np.uint8), (2, 1))[..., None].repeat(3, -1) for side in np.mgrid[0:256, 0:256])
    for value in range(256):
        pasted, _ = paste(old, new[99:], (0, 99, 256, 512), np.full((512, 256), value, np.uint8))
        pasted = pasted[99:].astype(int)
        assert np.abs(255 * pasted - value * new[99:].astype(int) - (255 - value) * old[99:].astype(int)).max() <= 127


@given(sides, sides, seeds, st.integers(0, 6))
def test_what_is_pasted_over_transparency_becomes_visible(width: int, height: int, seed: int, depth: int) -> None:
    """Porter and Duff's "over" in exact arithmetic, and in Pillow's, which rounds twice."""
    generator = np.random.default_rng(seed)
    original, edited = (generator.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2))
    alpha = generator.choice(np.array([0, 1, 128, 255], np.uint8), (height, width))
    opacity = feather(a_mask(width, height, seed, 0.02), depth)
    pasted, covered = paste(original, edited, (0, 0, width, height), opacity, alpha)
    assert covered is not None
    over, under = opacity / 255, alpha / 255 * (1 - opacity / 255)
    np.testing.assert_allclose(covered, 255 * (over + under), atol=0.5 + 1e-9)
    seen = (over + under) > 0
    exact = (edited * over[..., None] + original * under[..., None])[seen] / (over + under)[seen][:, None]
    np.testing.assert_allclose(pasted[seen], exact, atol=0.5 + 1e-9)
    np.testing.assert_array_equal(pasted[opacity == 0], original[opacity == 0])
    np.testing.assert_array_equal(covered[opacity == 0], alpha[opacity == 0])
    np.testing.assert_array_equal(pasted[opacity == 255], edited[opacity == 255])
    assert (covered[opacity == 255] == 255).all()
    ground, layer = Image.fromarray(np.dstack([original, alpha])), Image.fromarray(np.dstack([edited, opacity]))
    theirs = np.asarray(Image.alpha_composite(ground, layer))
    assert np.abs(theirs[..., 3].astype(int) - covered).max() <= 1
    solid = covered > 200  # where little is left, Pillow's second rounding shows
    assert np.abs(theirs[solid][:, :3].astype(int) - pasted[solid]).max(initial=0) <= 2
