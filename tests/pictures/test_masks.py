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
from pixrt.pictures.masks import Mask, feather, load_mask, mask_region, paste, to_latents, to_working

sides = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)


def a_mask(width: int, height: int, seed: int, share: float = 0.1) -> Mask:
    """A box and specks."""
    generator = np.random.default_rng(seed)
    mask = generator.random((height, width)) < share
    left, top = generator.integers(width), generator.integers(height)
    mask[top : top + generator.integers(1, height // 2 + 2), left : left + generator.integers(1, width // 2 + 2)] = True
    return mask


MASK = a_mask(24, 16, 3)
GREY = np.where(MASK, 255, 0).astype(np.uint8)


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
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, MASK)
    load_mask(MASK, (24, 16))[:] = False
    assert MASK.any()  # the caller's array stays theirs
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone's picture, stored on its side
    np.testing.assert_array_equal(
        load_mask(png(Image.fromarray(GREY).rotate(90, expand=True), exif=exif), (24, 16)), MASK
    )


def test_transparent_is_edited() -> None:
    for edit, keep in ((0, 255), (127, 128)):
        np.testing.assert_array_equal(load_mask(png(transparent(np.where(MASK, edit, keep))), (24, 16)), MASK)


@pytest.mark.torch
def test_the_threshold_is_diffusers() -> None:
    processor = pytest.importorskip("diffusers.image_processor").VaeImageProcessor(
        vae_scale_factor=1, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for image in (Image.fromarray(colours), Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))):
        expected = processor.preprocess(image)[0, 0].numpy() > 0
        np.testing.assert_array_equal(load_mask(image, image.size), expected)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (GREY.T, r"16 x 24 pixels, its picture 24 x 16"),
        (MASK[:, :, None], r"shape \[16, 24, 1\]"),
        (MASK & False, "selects nothing: True"),
        (GREY * 0 + 127, r"selects nothing: it has no transparency.*white"),
        (transparent(GREY * 0 + 254), r"selects nothing: it has transparency.*alpha below 128"),
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
    np.testing.assert_array_equal(working[:down, :across], seen)


def test_a_thin_mask_does_not_vanish() -> None:
    mask = np.zeros((1000, 1500), bool)
    mask[777, 1234] = True
    working = to_working(mask, plan_geometry(1500, 1000, "exact", resolution=48, multiple=8))
    assert np.argwhere(working).tolist() == [[24, 39]]
    assert np.argwhere(to_latents(working, 8)).tolist() == [[0, 3, 4]]


def test_the_working_mask_is_mirrored_as_the_picture_is() -> None:
    geometry = plan_geometry(45, 30, "exact", resolution=45, multiple=16)
    mask = a_mask(45, 30, 5)
    picture = load_picture(np.repeat(mask[:, :, None] * np.uint8(255), 3, 2))
    np.testing.assert_array_equal(to_working(mask, geometry), to_network(picture, geometry)[0] > 0)


def test_a_mask_outside_the_crop_is_refused() -> None:
    with pytest.raises(PictureError, match="selects nothing between"):
        to_working(np.arange(100) < np.ones((64, 1)), plan_geometry(100, 64, "fit", resolution=64, multiple=8))


@pytest.mark.torch
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 8]), seeds)
def test_latents_of_masks_along_the_blocks_are_diffusers(width: int, height: int, scale: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    working = np.kron(a_mask(width, height, seed), np.ones((scale, scale), bool))
    expected = torch.nn.functional.interpolate(torch.from_numpy(working[None, None].astype("f4")), size=(height, width))
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


@given(sides, sides, seeds, st.integers(0, 12))
def test_a_feathered_mask(width: int, height: int, seed: int, depth: int) -> None:
    mask = a_mask(width, height, seed, 0.02)
    opacity = feather(mask, depth)
    assert (opacity.dtype, opacity.max()) == (np.uint8, 255)
    assert ((opacity > 0) == mask).all()
    outside, inside = np.argwhere(~mask), np.argwhere(mask)
    if not len(outside):
        assert (opacity == 255).all()
        return
    # One by one: a diagonal step counts for 4/3, which is within 6 % of the Euclidean distance.
    apart = np.abs(inside[:, None] - outside[None])
    thirds = (2 * apart.max(-1) + apart.sum(-1)).min(1)
    assert np.abs(thirds / 3 / np.sqrt(np.square(apart).sum(-1).min(1)) - 1).max() < 0.06
    full = min(3 * (depth + 1), thirds.max())
    np.testing.assert_array_equal(opacity[mask], np.rint(np.minimum(thirds, full) * (255 / full)))


def test_a_feather_of_a_straight_edge_by_hand() -> None:
    mask = np.ones((9, 8), bool)
    mask[:, :2] = False
    np.testing.assert_array_equal(feather(mask, 0), mask * np.uint8(255))
    np.testing.assert_array_equal(feather(mask, 3)[4], [0, 0, 64, 128, 191, 255, 255, 255])
    # Six pixels deep: a ramp of more would leave nothing of the edit.
    np.testing.assert_array_equal(feather(mask, 100_000)[4], [0, 0, 42, 85, 128, 170, 212, 255])
    assert (feather(mask & False, 3) == 0).all()


@given(sides, sides, seeds, st.integers(0, 6))
def test_pasted_pixels(width: int, height: int, seed: int, depth: int) -> None:
    generator = np.random.default_rng(seed)
    original = generator.integers(0, 256, (height, width, 3), np.uint8)
    mask = a_mask(width, height, seed, 0.02)
    left, top, right, bottom = box = mask_region(mask, 1, (3, 2))
    edited = generator.integers(0, 256, (bottom - top, right - left, 3), np.uint8)
    opacity = feather(mask, depth)
    original.setflags(write=False)
    pasted = paste(original, edited, box, opacity)
    whole = original.copy()
    whole[top:bottom, left:right] = edited
    share = opacity[:, :, None] / 255
    np.testing.assert_array_equal(pasted, np.rint(whole * share + original * (1 - share)).astype(np.uint8))
    np.testing.assert_array_equal(pasted[~mask], original[~mask])
    np.testing.assert_array_equal(pasted[opacity == 255], whole[opacity == 255])


def test_every_opacity_of_every_pair_of_bytes_is_rounded_right() -> None:
    # More rows than are pasted at a time, and a box that does not begin at the top.
    new, old = (np.tile(side.astype(np.uint8), (2, 1))[..., None].repeat(3, -1) for side in np.mgrid[0:256, 0:256])
    for value in range(256):
        pasted = paste(old, new[99:], (0, 99, 256, 512), np.full((512, 256), value, np.uint8))[99:].astype(int)
        assert np.abs(255 * pasted - value * new[99:].astype(int) - (255 - value) * old[99:].astype(int)).max() <= 127
