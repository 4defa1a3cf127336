"""What the number of steps buys: how strong edits are against what they take. Must not import a backend."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt.pictures.geometry import Geometry
from pixrt.pictures.images import Picture


@dataclass(frozen=True, slots=True)
class Strength:
    """How far an edit is from its source: the mean absolute and the root mean square difference, of 255."""

    mean_absolute: float
    rms: float


def strength(edited: NDArray[np.uint8], source: NDArray[np.uint8]) -> Strength:
    """The strength of an edit, from two pictures `[H, W, 3]` of one size."""
    difference = edited.astype(np.float32) - source
    absolute = float(np.abs(difference).mean(dtype=np.float64))
    return Strength(absolute, math.sqrt(float(np.square(difference).mean(dtype=np.float64))))


def source_as_result(picture: Picture, geometry: Geometry, *, masked: bool) -> NDArray[np.uint8]:
    """The source `[H, W, 3]`, over white, cropped and scaled to what an edit of it returns: all of it with a mask."""
    height, width = picture.rgb.shape[:2]
    if masked or (geometry.crop, geometry.output) == ((0, 0, width, height), (width, height)):
        return picture.rgb
    from PIL import Image

    image = Image.fromarray(picture.rgb).resize(geometry.output, Image.Resampling.LANCZOS, box=geometry.crop)
    return np.asarray(image)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one cell gave. `denoise_ms` is its share of the steps that it took with others, by the branches that ran."""

    scheduler: str
    steps: int
    strength: Strength
    denoise_ms: float
    decode_ms: float


@dataclass(frozen=True, slots=True)
class StepRow:
    """The mean over the pictures of one solver and number of steps; `rms` is pooled, the root of the mean square.

    `picture_ms` is denoising and decoding. Encoding text and source is not in it: a sweep does that once.
    """

    scheduler: str
    steps: int
    pictures: int
    mean_absolute: float
    rms: float
    denoise_ms: float
    decode_ms: float
    picture_ms: float


def step_table(measured: Iterable[Measured]) -> list[StepRow]:
    """A row per solver and number of steps, solvers in their order and steps from few to many.

    A batch holds pictures of one solver and number of steps alone, so what it takes belongs to one row.
    """
    groups: dict[str, dict[int, list[Measured]]] = {}
    for each in measured:
        groups.setdefault(each.scheduler, {}).setdefault(each.steps, []).append(each)
    return [_row(rows) for of_scheduler in groups.values() for _, rows in sorted(of_scheduler.items())]


def _row(cells: Sequence[Measured]) -> StepRow:
    def mean(values: Iterable[float]) -> float:
        return math.fsum(values) / len(cells)

    denoise_ms, decode_ms = mean(each.denoise_ms for each in cells), mean(each.decode_ms for each in cells)
    return StepRow(
        scheduler=cells[0].scheduler,
        steps=cells[0].steps,
        pictures=len(cells),
        mean_absolute=mean(each.strength.mean_absolute for each in cells),
        rms=math.sqrt(mean(each.strength.rms**2 for each in cells)),
        denoise_ms=denoise_ms,
        decode_ms=decode_ms,
        picture_ms=denoise_ms + decode_ms,
    )
