"""From a scene to pixels. Must not import PyTorch."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pixrt_export.world.instructions import View
from pixrt_export.world.scene import COLOURS, Shape

SAMPLES = 4  # drawn four times larger and averaged, so that edges are smooth
# A triangle and a star of the same radius cover less than a circle: a little larger, so that all are as easy to see.
STRETCH = {"circle": 1.0, "square": 0.9, "triangle": 1.1, "star": 1.1}
STAR_INNER = 0.5
BORDER = 1 / 16


def draw(view: View, size: int) -> NDArray[np.uint8]:
    """Draw a scene and apply its filters: uint8 [size, size, 3]."""
    picture = Image.new("RGB", (size * SAMPLES,) * 2, COLOURS[view.scene.background])
    pen = ImageDraw.Draw(picture)
    for shape in view.scene.shapes:
        _draw_shape(pen, shape, size * SAMPLES, COLOURS[shape.colour])
    pixels = np.asarray(picture.reduce(SAMPLES))
    for name in view.filters:
        pixels = _filtered(pixels, name)
    return pixels


def silhouette(shape: Shape, size: int) -> NDArray[np.bool_]:
    """The pixels that one shape covers by at least half: [size, size]."""
    picture = Image.new("L", (size * SAMPLES,) * 2)
    _draw_shape(ImageDraw.Draw(picture), shape, size * SAMPLES, 255)
    return np.asarray(picture.reduce(SAMPLES)) > 127


def _draw_shape(pen: ImageDraw.ImageDraw, shape: Shape, side: int, fill: tuple[int, int, int] | int) -> None:
    x, y, r = shape.x * side, shape.y * side, shape.radius * STRETCH[shape.name] * side
    match shape.name:
        case "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill)
        case "square":
            pen.rectangle((x - r, y - r, x + r, y + r), fill)
        case "triangle":
            pen.polygon(_corners(x, y, [r] * 3), fill)
        case "star":
            pen.polygon(_corners(x, y, [r, r * STAR_INNER] * 5), fill)


def _corners(x: float, y: float, radii: list[float]) -> list[tuple[float, float]]:
    """The corners of a polygon around (x, y), the first one on top."""
    turn = math.tau / len(radii)
    return [(x + r * math.sin(k * turn), y - r * math.cos(k * turn)) for k, r in enumerate(radii)]


def _filtered(pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    match name:
        case "grayscale":
            return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
        case "invert":
            return 255 - pixels
        case "darken":
            return pixels // 2
        case "border":
            width = round(BORDER * len(pixels))
            framed = np.full_like(pixels, 255)
            framed[width:-width, width:-width] = pixels[width:-width, width:-width]
            return framed
    raise ValueError(f"no filter is called {name!r}")
