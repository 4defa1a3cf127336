"""Edits of every pixel and those around it: blur, edges, brushes. Must not import PyTorch.

Each takes pixels FP32 [H, W, 3] in [0, 1], a strength (0 changes nothing) and a scale: radii are stated in pixels of a
picture of 256 pixels or so, and multiplied by the scale where the same edit is to be seen in a larger picture.
"""

import numpy as np
from scipy import ndimage

from pixrt_export.photo.pixels import Pixels, blend, box, gray, luma, smoothed

BLUR, SHARPEN, POSTER, SKETCH, EMBOSS = 2.5, 1.5, 2.0, 2.0, 1.0  # standard deviations in pixels
BLOCK, BRUSH, EDGE = 8, 3, 28  # pixels
STEEP = 10  # contrast of a poster, in that of the picture
RICH = 1.4  # saturation and contrast of oil paint, in those of the picture


def blur(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Gaussian blur."""
    return smoothed(x, BLUR * strength * scale)


def sharpen(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Unsharp mask."""
    return x + 2 * strength * (x - smoothed(x, SHARPEN * scale))


def posterise(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Flat areas of eight colours: without its details, each channel goes to one of two levels, with a soft edge."""
    levels = np.clip(0.5 + STEEP * (smoothed(x, POSTER * scale) - 0.5), 0, 1)
    return blend(x, levels, min(strength, 1))


def pixelate(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Squares of one colour, from the top left corner on."""
    side = max(1, round(BLOCK * scale))
    height, width = x.shape[:2]
    padded = np.pad(x, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    tall, wide = len(padded) // side, padded.shape[1] // side
    means = padded.reshape(tall, side, wide, side, 3).mean(axis=(1, 3))
    squares = means.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return blend(x, squares, min(strength, 1))


def oil(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Kuwahara's filter, the mean of the quietest of the four squares that a pixel is a corner of; in rich paint."""
    reach = max(1, round(BRUSH * scale))
    side, half = 2 * reach + 1, reach
    mean = box(box(x, side, 0), side, 1)
    light = luma(x)
    square = box(box(light**2, side, 0), side, 1) - box(box(light, side, 0), side, 1) ** 2
    height, width = x.shape[:2]
    rows, columns = np.arange(height), np.arange(width)
    best, least = mean, np.full((height, width, 1), np.inf, np.float32)
    for down in (-half, half):
        for right in (-half, half):
            at = np.ix_(np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1))
            quieter = square[at] < least
            best, least = np.where(quieter, mean[at], best), np.where(quieter, square[at], least)
    rich = 0.5 + RICH * (blend(luma(best), best, RICH) - 0.5)
    return blend(x, rich, min(strength, 1))


def pencil_sketch(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Gray lines on white paper, where it is darker than around."""
    light = luma(x)
    lines = np.maximum(smoothed(light, SKETCH * scale) - light, 0)
    return blend(x, gray(0.97 - 5 * lines), min(strength, 1))


def emboss(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """A gray relief with its light from the top left."""
    light = smoothed(luma(x), EMBOSS * scale)
    slope = ndimage.sobel(light, axis=0, mode="nearest") + ndimage.sobel(light, axis=1, mode="nearest")
    return blend(x, gray(0.5 + 0.25 * scale * slope), min(strength, 1))


def vignette(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Dark at the edges, over a stated width."""
    down, right = (_open(length, EDGE * scale) for length in x.shape[:2])
    return x * (1 - min(1, 0.8 * strength) * (1 - np.outer(down, right)[..., None]))


def _open(length: int, width: float) -> Pixels:
    """0 at both ends of a line of pixels, 1 far from them."""
    at = np.arange(length, dtype=np.float32) + 0.5
    opened: Pixels = 1 - np.exp(-((np.minimum(at, length - at) / width) ** 2))
    return opened
