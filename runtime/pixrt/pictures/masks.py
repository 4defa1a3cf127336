"""Which pixels an edit may change: masks read, the region around them, in the networks' sizes, and edits put back.

A mask is `[H, W]` uint8, how far each pixel may change: 0 stays as it is, 255 is the edit's, between them is both.
Pillow is imported when the first mask picture is. Must not import a backend.
"""

import os
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import PictureError
from pixrt.pictures.geometry import Geometry, Size
from pixrt.pictures.images import Picture, PictureSource, as_array, load_picture

Mask: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the last two are outside."""

_FULL, _HALF = 255, 128
# What is as near to black or white as this is meant to be that: JPEG, and the edges of brushes, leave such traces.
_TRACE = 7
_WHITE_STROKES = 200  # the least luminance
# Geometry's crops are floats: what a pixel covers of its neighbour by less than this is their rounding.
_TOUCH = 1e-6
# Chamfer distances (Borgefors 1986) are in thirds of a pixel.
_STRAIGHT, _DIAGONAL = 3, 4
_ROWS = 256


def load_mask(source: PictureSource, size: Size, *, inverted: bool = False) -> Mask:
    """The mask `[H, W]` of a picture of `size` (width, height), from a bool array or from what `load_picture` takes.

    True in an array is edited. If any of a mask picture is transparent, what is transparent is (the convention of
    OpenAI's images API); otherwise what is white (that of diffusers); what is between acts in proportion. `inverted`
    turns it around. Raises PictureError for what is no picture, another size than the picture's, and a mask that
    selects nothing.
    """
    source = as_array(source)
    if isinstance(source, np.ndarray) and source.dtype == np.bool_:
        if source.ndim != 2:
            raise PictureError(f"the mask has shape {list(source.shape)}", remedy="Pass bool [H, W]", option="mask")
        mask, name, convention = source * np.uint8(_FULL), "the mask", "True in the array is edited"
    else:
        try:
            picture = load_picture(source)
        except PictureError as error:  # next to the picture itself "the picture" would be the wrong one
            problem = f"the mask cannot be used: {error.problem}"
            raise type(error)(problem, remedy=error.remedy, option="mask") from error
        mask, convention = _read(picture)
        name = f"the mask {picture.name}" if isinstance(source, str | os.PathLike) else "the mask"
    height, width = mask.shape
    if (width, height) != size:
        raise PictureError(
            f"{name} is {width} x {height} pixels, its picture {size[0]} x {size[1]}",
            remedy="Make the mask as large as the picture",
            option="mask",
        )
    if inverted:
        mask, convention = _FULL - mask, f"{convention}; and that is turned around"
    if not mask.any():
        raise PictureError(
            f"{name} selects nothing: {convention}",
            remedy="Mark what may change, or leave out the mask",
            option="mask",
        )
    return mask


def _read(picture: Picture) -> tuple[Mask, str]:
    """A mask picture's mask, and the convention by which it was read."""
    if picture.alpha is not None and picture.alpha.min() < _FULL:
        return _without_traces(_FULL - picture.alpha), "it has transparency, so what is transparent is edited"
    return _without_traces(_luminance(picture.rgb)), "it has no transparency, so what is white is edited"


def _luminance(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(rgb).convert("L"))


def _without_traces(mask: Mask) -> Mask:
    clean = mask.copy()
    clean[clean <= _TRACE] = 0
    clean[clean >= _FULL - _TRACE] = _FULL
    return clean


def is_of_white_strokes(source: PictureSource) -> bool:
    """Whether a mask picture is white where it is opaque: who paints so means the strokes, and selects the rest."""
    source = as_array(source)
    if isinstance(source, np.ndarray) and source.dtype == np.bool_:
        return False
    picture = load_picture(source)
    if picture.alpha is None or picture.alpha.min() == _FULL:
        return False
    painted = picture.alpha >= _HALF
    return bool(painted.any() and _luminance(picture.straight)[painted].min() >= _WHITE_STROKES)


def hard(mask: Mask) -> NDArray[np.bool_]:
    """A mask for networks that know no half: what may change by half and more, as diffusers does; or by anything."""
    half: NDArray[np.bool_] = mask >= _HALF
    return half if half.any() else mask > 0


def mask_region(mask: Mask, padding: int, working: Size) -> Box:
    """The box to work on: the mask's, grown by `padding` pixels, then widened to the aspect ratio of `working`.

    It holds the mask and lies within the picture: if the picture has no room on one side the box moves to the other,
    and if it has none at all the box ends with the picture. The rule is that of diffusers'
    `VaeImageProcessor.get_crop_region`, but in whole numbers and rounded up, while diffusers rounds down (one pixel
    less, unless it comes out even): so no box is thinner than the working picture or the picture, the cap of
    `check_size`. The mask must not be empty.
    """
    height, width = mask.shape
    left, top, right, bottom = _bounds(mask, padding)
    if (right - left) * working[1] > (bottom - top) * working[0]:
        top, bottom = _widen(top, bottom, -(-(right - left) * working[1] // working[0]), height)
    else:
        left, right = _widen(left, right, -(-(bottom - top) * working[0] // working[1]), width)
    return left, top, right, bottom


def _bounds(mask: Mask, margin: int) -> Box:
    """The bounding box of a mask that is not empty, grown by a margin where the picture has room."""
    height, width = mask.shape
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    left, right = max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, width)
    top, bottom = max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, height)
    return left, top, right, bottom


def _widen(first: int, last: int, wanted: int, room: int) -> tuple[int, int]:
    """A span of the wanted length around a shorter one, moved into [0, room], and cut to it if it is longer."""
    wanted = min(wanted, room)
    first = min(max(first - (wanted - (last - first)) // 2, 0), room - wanted)
    return first, first + wanted


def to_working(mask: Mask, geometry: Geometry) -> Mask:
    """The mask `[H, W]` of the working picture: cropped, scaled and mirrored as `images.to_network` does.

    A working pixel may change as far as any pixel of the picture that it covers may: no mask is too thin to be seen.
    Raises PictureError for a mask that lies outside the crop.
    """
    left, top, right, bottom = geometry.crop
    rows = _most_covered(mask, top, bottom, geometry.scaled[1])
    scaled = _most_covered(rows.T, left, right, geometry.scaled[0]).T
    if not scaled.any():
        raise PictureError(
            f"the mask selects nothing between the points ({left:g}, {top:g}) and ({right:g}, {bottom:g}), the part of"
            " the picture that is used",
            remedy="Use resize exact, which uses the whole picture, or another mask",
            option="mask",
        )
    beyond = [padded - side for padded, side in zip(geometry.padded, geometry.scaled, strict=True)]
    return np.pad(scaled, ((0, beyond[1]), (0, beyond[0])), mode="reflect")


def _most_covered(mask: Mask, first: float, last: float, count: int) -> Mask:
    """`[count, W]`: the rows from `first` to `last` in `count` equal parts, of each the most of the rows it covers."""
    edges = np.linspace(first, last, count + 1)
    low, high = np.floor(edges[:-1] + _TOUCH).astype(int), np.ceil(edges[1:] - _TOUCH).astype(int)
    return np.stack([mask[start:stop].max(axis=0) for start, stop in zip(low, high, strict=True)])


def to_latents(working: Mask, scale: int) -> NDArray[np.float32]:
    """The mask `[1, h, w]` of the latents, 0 to 1, of a working mask `[scale * h, scale * w]`.

    As much as the pixel of the latent's block that may change most. diffusers asks one pixel of the block: the same if
    the mask's borders are the blocks'.
    """
    height, width = working.shape
    blocks = working.reshape(1, height // scale, scale, width // scale, scale)
    latents: NDArray[np.float32] = np.max(blocks, axis=(2, 4)) / np.float32(_FULL)
    return latents


def feather(mask: Mask, width: int) -> NDArray[np.uint8]:
    """The opacity `[H, W]` with which the edited picture is put over the original; `width`, 0 or more, is in pixels.

    0 outside the mask, so that the original stays as it is there; inside rising evenly over `width` pixels to as far as
    the mask lets it change. The picture's own border is no edge. A mask nowhere deep enough for `width` rises over the
    depth it has, so that what is edited shows.
    """
    opacity = np.zeros(mask.shape, np.uint8)
    if not mask.any():
        return opacity
    left, top, right, bottom = _bounds(mask, 1)  # a pixel around it is outside, if there is one
    within = mask[top:bottom, left:right]
    distance = _distance(within > 0, _STRAIGHT * (min(width, max(mask.shape)) + 1))
    deepest = int(distance.max())
    risen = np.rint(np.arange(deepest + 1) * (_FULL / deepest)).astype(np.uint16)[distance]
    opacity[top:bottom, left:right] = (risen * within + _HALF - 1) // _FULL
    return opacity


def _distance(mask: NDArray[np.bool_], limit: int) -> NDArray[np.uint16]:
    """How far inside a mask each pixel `[H, W]` is, in thirds of a pixel up to `limit`; 0 outside, 3 at the edge.

    The chamfer distance of Borgefors 1986, within 6 % of the Euclidean one, in two passes whatever the limit: each
    carries distances from the row above and along the row, the second upside down and backwards.
    """
    distance = np.where(mask, np.uint16(limit), np.uint16(0))
    along = _STRAIGHT * np.arange(mask.shape[1])
    for rows in (distance, distance[::-1, ::-1]):
        above = np.full(mask.shape[1] + 2, limit)  # beyond the picture's border nothing is outside the mask
        for row in rows:
            near = np.minimum(above[:-2], above[2:]) + _DIAGONAL
            np.minimum(near, above[1:-1] + _STRAIGHT, out=near)
            np.minimum(near, row, out=near)
            # The least of d[j] + 3 (i - j) over the j up to i, as a running minimum.
            near -= along
            np.minimum.accumulate(near, out=near)
            near += along
            row[:] = above[1:-1] = near
    return distance


def paste(
    original: NDArray[np.uint8],
    edited: NDArray[np.uint8],
    box: Box,
    opacity: NDArray[np.uint8],
    alpha: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The original `[H, W, 3]` with the edited region `[h, w, 3]` over it, in the box, with the opacity `[H, W]`.

    `alpha` `[H, W]` is the original's transparency; the edited region has none, so what it covers becomes opaque
    (Porter and Duff 1984, "over"). Rounded to the nearest; where the opacity is 0 the original's bytes, where it is 255
    the edited ones. The box has the edited region's size.
    """
    left, top, right, bottom = box
    pasted = original.copy()
    covered = None if alpha is None else alpha.copy()
    for start in range(top, bottom, _ROWS):  # what is between needs several times the bytes: not for all rows at once
        stop = min(start + _ROWS, bottom)
        rows = slice(start, stop), slice(left, right)
        over = opacity[rows][..., None].astype(np.uint32)
        new, old = edited[start - top : stop - top].astype(np.uint32), original[rows].astype(np.uint32)
        if alpha is None or covered is None:
            pasted[rows] = (new * over + old * (_FULL - over) + _FULL // 2) // _FULL
            continue
        under = (_FULL - over) * alpha[rows][..., None]  # what is left of the original, of 255 * 255
        whole = _FULL * over + under
        mixed = (new * (_FULL * over) + old * under + whole // 2) // np.maximum(whole, 1)
        pasted[rows] = np.where(over == 0, old, mixed)
        covered[rows] = ((whole + _FULL // 2) // _FULL)[..., 0]
    return pasted, covered
