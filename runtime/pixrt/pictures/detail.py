"""A change that was made on a small picture, carried to the large one that the small one was scaled from.

A network works at its own resolution. Scaled up, its result lacks the large picture's detail; here it gets what of
it the change leaves: `up(edit) + A (picture - up(source))`, a Laplacian pyramid (Burt and Adelson 1983) of two levels.
`A`, 3 x 3 in every place, says what the change made of the finest detail that the small ones have: the regression of
the edit's on the source's in a window around, as in guided image filtering (He, Sun and Tang 2013,
doi:10.1109/TPAMI.2012.213), drawn to that over the whole picture where there is no detail to go by. So black and white
keeps all of it in grey, a blur keeps none, and what is new in the edit takes none from what was there.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

Planes = NDArray[np.float32]

_FINE = 2  # radius in pixels of the mean that detail is what differs from: at 1 a network's own softness hides it
_AROUND = 8  # radius of the window of a regression
_WEIGHT = 1e-4  # variance, of values from 0 to 1, at which a window counts as much as the whole picture
_BAND = 256  # rows at a time


def carry(picture: NDArray[np.uint8], source: Planes, edit: Planes) -> NDArray[np.uint8]:
    """The change from `source` to `edit`, both `[3, h, w]` in [-1, 1], on `picture`, `[H, W, 3]`: `[H, W, 3]`.

    `source` is `picture` scaled down.
    """
    gains = _gains(source, edit)
    small = [[_plane(each) for each in planes] for planes in (source, edit)]
    tilted = [[_plane(gain) for gain in row] for row in gains]
    result = np.empty_like(picture)
    height, width = picture.shape[:2]
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))

        def up(plane: "Image.Image", rows: slice = rows, *, smooth: bool = True) -> NDArray[Any]:
            return _scaled(plane, (height, width), rows, smooth)

        detail = [picture[rows, :, i] / np.float32(127.5) - 1 - up(small[0][i]) for i in range(3)]
        for channel in range(3):
            values = up(small[1][channel])
            for i in range(3):
                values += up(tilted[channel][i], smooth=False) * detail[i]
            np.clip(values, -1, 1, out=values)
            result[rows, :, channel] = np.rint((values + 1) * np.float32(127.5))
    return result


def _gains(source: Planes, edit: Planes) -> Planes:
    """`A` `[3, 3, h, w]`: of an edit's channel, of a source's channel, in every place."""
    fine, changed = (planes / 2 - _mean(planes / 2, _FINE) for planes in (source, edit))
    flat = fine.reshape(3, -1)
    whole = changed.reshape(3, -1) @ flat.T @ np.linalg.inv(flat @ flat.T + np.eye(3) * 1e-6 * flat.shape[1])
    rest = changed - np.tensordot(whole, fine, 1).astype(np.float32)
    around = _mean(fine[:, None] * fine[None], _AROUND)  # [3, 3, h, w]
    around[range(3), range(3)] += _WEIGHT
    towards = _mean(rest[:, None] * fine[None], _AROUND)
    local = np.linalg.solve(
        around.transpose(2, 3, 0, 1), towards.transpose(2, 3, 1, 0)
    )  # [h, w, 3 of source, 3 of edit]
    return (local.transpose(3, 2, 0, 1) + whole[:, :, None, None]).astype(np.float32)


def _mean(values: NDArray[Any], radius: int) -> Planes:
    """The mean over a square of `2 radius + 1` pixels around each, less at the borders; over the last two axes."""
    for axis in (-2, -1):
        length = values.shape[axis]
        sums = np.concatenate(
            [np.zeros_like(values.take([0], axis), np.float64), np.cumsum(values, axis, np.float64)], axis
        )
        last, first = np.minimum(np.arange(length) + radius + 1, length), np.maximum(np.arange(length) - radius, 0)
        counts = (last - first).reshape([-1 if a == axis else 1 for a in (-2, -1)])
        values = ((sums.take(last, axis) - sums.take(first, axis)) / counts).astype(np.float32)
    return values


def _plane(values: Planes) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(values, np.float32))


def _scaled(plane: "Image.Image", size: tuple[int, int], rows: slice, smooth: bool) -> NDArray[np.float32]:
    """Some rows of a plane scaled to `size`, height and width, as they are in the whole."""
    from PIL import Image

    height, width = size
    scale = plane.height / height
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    box = (0, rows.start * scale, plane.width, min(rows.stop * scale, plane.height))
    return np.array(plane.resize((width, rows.stop - rows.start), method, box=box))
