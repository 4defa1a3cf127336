"""What a picture of the world shows, told from its pixels: background, shapes and their colours. No PyTorch.

A generated picture is soft and a little off in colour. So a pixel counts as the named colour it is nearest to, a shape
is an area that is not background, and is compared with drawn silhouettes of the same size and place.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pixrt_export.world.drawing import silhouette
from pixrt_export.world.scene import COLOURS, SHAPES, Scene, Shape

RIM = 1 / 32  # the width of the outer rim, which shows only background in every scene
SMALLEST = 0.006  # of the picture's area; the smallest shape that a scene can hold covers four times as much
PURE = 0.8  # of a shape's inner pixels must be of its colour
ALIKE = 0.7  # overlap with a silhouette (intersection over union) from which a shape is that shape
SOFT = 1 / 64  # of the picture's side: the blur with which silhouettes are compared beside the sharp ones
UNKNOWN = "unknown"
_NAMES = tuple(COLOURS)
_PALETTE = np.array(list(COLOURS.values()), np.float32)  # [10, 3]


@dataclass(frozen=True, slots=True)
class Sight:
    """What was found: the background's colour, and every shape as (name, colour), sorted; either may be `unknown`."""

    background: str
    shapes: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """For example "red circle, blue unknown on green"."""
        named = (name if colour == UNKNOWN else f"{colour} {name}" for name, colour in self.shapes)
        return f"{', '.join(named) or 'nothing'} on {self.background}"


def sight_of(scene: Scene) -> Sight:
    """What there is to be found in a scene."""
    return Sight(scene.background, tuple(sorted((shape.name, shape.colour) for shape in scene.shapes)))


def shows(pixels: NDArray[np.uint8], scene: Scene) -> bool:
    """Whether a picture shows what the scene's caption names: its background and exactly its shapes and colours."""
    return look(pixels) == sight_of(scene)


def look(pixels: NDArray[np.uint8]) -> Sight:
    """Find the background and the shapes of a picture [H, H, 3]; reliable from 48 pixels on."""
    nearest = nearest_colours(pixels)
    background = _most_frequent(_rim(nearest))
    areas, count = ndimage.label(nearest != background)  # 4-connected, numbered from 1
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    large = [number for number in range(1, count + 1) if sizes[number] >= SMALLEST * areas.size]
    found = [_identify(pixels, nearest, areas == number, background) for number in large]
    return Sight(_NAMES[background], tuple(sorted(found)))


def nearest_colours(pixels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The index in COLOURS of the colour that each pixel is nearest to: [H, W]."""
    nearest: NDArray[np.intp] = np.argmin(_distances(pixels), axis=-1)
    return nearest


def _distances(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Squared distance of every pixel to every named colour: [H, W, 10]."""
    squared: NDArray[np.float32] = np.square(pixels[:, :, None].astype(np.float32) - _PALETTE).sum(axis=-1)
    return squared


def _rim(image: NDArray[np.intp]) -> NDArray[np.intp]:
    width = max(1, round(RIM * len(image)))
    inner = np.zeros(image.shape, bool)
    inner[width:-width, width:-width] = True
    return image[~inner]


def _most_frequent(indices: NDArray[np.intp]) -> int:
    return int(np.bincount(indices.ravel(), minlength=len(_NAMES)).argmax())


def _identify(
    pixels: NDArray[np.uint8], nearest: NDArray[np.intp], area: NDArray[np.bool_], background: int
) -> tuple[str, str]:
    """The name and colour of the shape that one connected area shows."""
    # Its colour is told deep inside, for colours mix at the edge: red on white has a pink one.
    depth = ndimage.distance_transform_edt(area)
    core = depth > depth.max() / 2
    colour = _most_frequent(nearest[core])
    if np.count_nonzero(nearest[core] == colour) < PURE * np.count_nonzero(core):
        return UNKNOWN, UNKNOWN
    inside = np.median(pixels[core & (nearest == colour)], axis=0)
    outside = np.median(pixels[nearest == background], axis=0)
    coverage = np.where(ndimage.binary_dilation(area, iterations=2), _mixture(pixels, outside, inside), 0)
    return _shape_of(coverage), _NAMES[colour]


def _mixture(pixels: NDArray[np.uint8], none: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each pixel is the colour `whole` rather than `none`, from 0 to 1: [H, W]."""
    change = whole - none
    share: NDArray[np.float64] = (pixels - none) @ change / (change @ change)
    return share.clip(0, 1)


def _shape_of(coverage: NDArray[np.float64]) -> str:
    """The name of the silhouette that overlaps best with a coverage [H, H] from 0 to 1."""
    overlaps = {name: max(_overlap(coverage, fitted) for fitted in _fitted(name, coverage)) for name in SHAPES}
    best = max(overlaps, key=lambda name: overlaps[name])
    return best if overlaps[best] >= ALIKE else UNKNOWN


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two coverages."""
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


def _fitted(name: str, coverage: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The silhouette of a shape with the coverage's area and centre of mass, sharp, and soft as a decoder leaves it.

    Not fitted to its bounding box, which a single pixel of noise moves.
    """
    mass, area = _measure(coverage)
    unit_mass, unit_area = _unit_measure(name)
    radius = math.sqrt(area / unit_area)
    x, y = mass - radius * unit_mass
    # Drawn twice as large and averaged: at an edge a pixel is covered in part, here as in the picture.
    side = len(coverage)
    large = silhouette(Shape(name, "", x, y, radius), 2 * side)
    sharp = large.reshape(side, 2, side, 2).mean(axis=(1, 3))
    yield sharp
    yield ndimage.gaussian_filter(sharp, SOFT * side)


def _measure(coverage: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Centre of mass (x, y) and area, in fractions of the picture's side."""
    side, total = len(coverage), float(coverage.sum())
    places = (np.arange(side) + 0.5) / side
    return np.array([coverage.sum(axis=0) @ places, coverage.sum(axis=1) @ places]) / total, total / side**2


@functools.cache
def _unit_measure(name: str) -> tuple[NDArray[np.float64], float]:
    """The same of a shape of radius 1 around (0, 0)."""
    radius = 0.25
    mass, area = _measure(silhouette(Shape(name, "", 0.5, 0.5, radius), 512).astype(np.float64))
    return (mass - 0.5) / radius, area / radius**2
