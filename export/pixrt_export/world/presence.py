"""What a picture of the world shows, told from its pixels: background, shapes and their colours. No PyTorch.

A generated picture is soft and a little off in colour. So a pixel counts as the named colour it is nearest to, a shape
is an area that is not background, and its outline is compared with the drawn silhouettes of the same extent.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pixrt_export.world.drawing import silhouette
from pixrt_export.world.scene import COLOURS, SHAPES, Scene, Shape

RIM = 1 / 32  # the width of the outer rim, which shows background alone in every scene
SMALLEST = 0.006  # of the picture's area; the smallest shape that a scene can hold covers four times as much
PURE = 0.8  # of a shape's inner pixels must be of its colour
ALIKE = 0.7  # overlap with a silhouette (intersection over union) from which a shape is that shape
UNKNOWN = "unknown"
_NAMES = tuple(COLOURS)
_PALETTE = np.array(list(COLOURS.values()), np.float32)  # [10, 3]


@dataclass(frozen=True, slots=True)
class Sight:
    """What was found: the background's colour, and every shape as (name, colour), sorted; either may be `unknown`."""

    background: str
    shapes: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """For example "red circle on green"."""
        return f"{', '.join(f'{colour} {name}' for name, colour in self.shapes) or 'nothing'} on {self.background}"


def sight_of(scene: Scene) -> Sight:
    """What there is to be found in a scene."""
    return Sight(scene.background, tuple(sorted((shape.name, shape.colour) for shape in scene.shapes)))


def shows(pixels: NDArray[np.uint8], scene: Scene) -> bool:
    """Whether a picture shows what the scene's caption names: its background and exactly its shapes and colours."""
    return look(pixels) == sight_of(scene)


def look(pixels: NDArray[np.uint8]) -> Sight:
    """Find the background and the shapes of a picture [H, H, 3]; reliable from about 48 pixels on."""
    nearest = nearest_colours(pixels)
    background = _most_frequent(_rim(nearest))
    areas, count = ndimage.label(nearest != background)  # 4-connected
    found = []
    for number, box in enumerate(ndimage.find_objects(areas, count), 1):
        if box is None:
            continue
        area = areas == number
        if np.count_nonzero(area) >= SMALLEST * area.size:
            found.append(_identify(pixels, nearest, area, background))
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
    core = nearest[depth > depth.max() / 2]
    colour = _most_frequent(core)
    if np.count_nonzero(core == colour) < PURE * len(core):
        return UNKNOWN, UNKNOWN
    # Where at least half of a pixel is the shape: what `silhouette` draws.
    distances = _distances(pixels)
    mask = ndimage.binary_dilation(area) & (distances[:, :, colour] <= distances[:, :, background])
    return _shape_of(mask), _NAMES[colour]


def _shape_of(mask: NDArray[np.bool_]) -> str:
    """The name of the silhouette that overlaps best with the mask [H, H]."""
    overlaps = {name: max(_overlap(mask, fitted) for fitted in _fitted(name, mask)) for name in SHAPES}
    best = max(overlaps, key=lambda name: overlaps[name])
    return best if overlaps[best] >= ALIKE else UNKNOWN


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(one & other)) / int(np.count_nonzero(one | other))


def _fitted(name: str, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Silhouettes of a shape fitted to the mask: to its bounding box, and to its area and centre of mass.

    Both, because a pixel of noise moves the box and hardly the area, and a rounded tip rather the area.
    """
    found, unit = _measure(mask), _unit_measures(name)
    of_box = float((found.extent / unit.extent).mean())
    of_area = math.sqrt(found.area / unit.area)
    for radius, (x, y) in (
        (of_box, found.middle - of_box * unit.middle),
        (of_area, found.mass - of_area * unit.mass),
    ):
        yield silhouette(Shape(name, "", x, y, radius), len(mask))


class _Measures(NamedTuple):
    """Of a mask, in fractions of its side: its box's middle and extent (x, y), its centre of mass, its area."""

    middle: NDArray[np.float64]
    extent: NDArray[np.float64]
    mass: NDArray[np.float64]
    area: float


def _measure(mask: NDArray[np.bool_]) -> _Measures:
    points: NDArray[np.float64] = (np.argwhere(mask)[:, ::-1] + 0.5) / len(mask)  # [N, 2], x and y
    half = 0.5 / len(mask)
    low, high = points.min(axis=0) - half, points.max(axis=0) + half
    return _Measures((low + high) / 2, high - low, points.mean(axis=0), len(points) / mask.size)


@functools.cache
def _unit_measures(name: str) -> _Measures:
    """A shape of radius 1 around (0, 0)."""
    radius = 0.25
    measures = _measure(silhouette(Shape(name, "", 0.5, 0.5, radius), 512))
    return _Measures(
        (measures.middle - 0.5) / radius,
        measures.extent / radius,
        (measures.mass - 0.5) / radius,
        measures.area / radius**2,
    )
