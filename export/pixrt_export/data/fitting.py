"""Both pictures of a pair at the training size: scaled alike, cropped alike. Must not import PyTorch.

The original stretches its pictures, which are all square, to [size, size]. Here others are cropped at their centre.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixrt.errors import PictureError
from pixrt.pictures.geometry import Size
from pixrt.pictures.images import PictureSource, load_picture
from pixrt_export.data.pairs import Pair

ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Fit:
    """How a pair becomes [size, size]: both pictures are scaled to `scaled`, then cropped from (`left`, `top`)."""

    scaled: Size
    left: int
    top: int


def plan_fit(source: Size | None, target: Size, size: int) -> Fit:
    """Plan a pair whose pictures have these sizes: the target's short side becomes `size`, the centre is kept.

    A source of another size is scaled to what the target is scaled to, so that the crop shows the same of both. Raises
    PictureError if that would stretch it by more than ASPECT_TOLERANCE.
    """
    width, height = target
    if source is not None:
        stretch = source[0] * height / (source[1] * width)
        if max(stretch, 1 / stretch) > 1 + ASPECT_TOLERANCE:
            raise PictureError(
                f"the source is {source[0]} x {source[1]} and the target {width} x {height}, which is another shape",
                remedy="Crop both to the same part",
            )
    short = min(width, height)
    scaled = (_scale(width, size, short), _scale(height, size, short))
    return Fit(scaled, (scaled[0] - size) // 2, (scaled[1] - size) // 2)


def load_pair(where: str, instruction: str, source: PictureSource | None, target: PictureSource, size: int) -> Pair:
    """Decode a pair, turn it upright and fit it to [size, size, 3]; `where` is for errors. Raises PictureError."""
    try:
        after = load_picture(target).rgb
        before = None if source is None else load_picture(source).rgb
        plan = plan_fit(None if before is None else size_of(before), size_of(after), size)
    except PictureError as error:
        raise PictureError(f"{where}: {error.problem}", remedy=error.remedy) from error
    return Pair(instruction, None if before is None else _fitted(before, plan, size), _fitted(after, plan, size))


def size_of(rgb: NDArray[np.uint8]) -> Size:
    """Width and height of pixels [H, W, 3]."""
    return rgb.shape[1], rgb.shape[0]


def _fitted(rgb: NDArray[np.uint8], plan: Fit, size: int) -> NDArray[np.uint8]:
    if size_of(rgb) != plan.scaled:
        rgb = np.asarray(Image.fromarray(rgb).resize(plan.scaled, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(rgb[plan.top : plan.top + size, plan.left : plan.left + size])


def _scale(side: int, size: int, short: int) -> int:
    return (2 * side * size + short) // (2 * short)  # rounded
