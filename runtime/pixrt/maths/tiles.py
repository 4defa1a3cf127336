"""Windows over a plane that is larger than a network takes, or is to have at once, and the weights that join them.

Pure maths: sizes are (height, width), in latents unless a scale says otherwise. All windows of a plane have one size,
so that one bound network serves them all; they are spread evenly, the first and the last flush with the borders.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import OptionError

Sides = tuple[int, int]
Window = tuple[slice, slice]
Plane = NDArray[np.float32]

# Latents that neighbours share at least. With 4 the model `shapes` leaves streaks where windows end: its UNet and its
# decoder are off within two latents of a border.
MIN_OVERLAP = 8
_SHARE = 4  # of a large tile's side one in so many


@dataclass(frozen=True, slots=True)
class Tiling:
    """Windows of one size over a plane: `tops` and `lefts` are the first row and column of each, in order."""

    size: Sides
    window: Sides
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many windows there are; 1 is the whole plane."""
        return len(self.tops) * len(self.lefts)

    def scaled(self, scale: int) -> "Tiling":
        """The same windows in a plane of `scale` positions for each of this one's, such as pixels for latents."""
        tops, lefts = (tuple(scale * first for first in firsts) for firsts in (self.tops, self.lefts))
        (height, width), (rows, columns) = self.size, self.window
        return Tiling((scale * height, scale * width), (scale * rows, scale * columns), tops, lefts)

    def windows(self) -> Iterator[Window]:
        """Rows and columns of each window, row by row of them."""
        height, width = self.window
        for top in self.tops:
            for left in self.lefts:
                yield slice(top, top + height), slice(left, left + width)

    def weights(self) -> Iterator[Plane]:
        """What each window counts for, `[height, width]` above 0, in the order of `windows`; 1 in sum everywhere."""
        down, across = (
            _shares(firsts, window, side)
            for firsts, window, side in zip((self.tops, self.lefts), self.window, self.size, strict=True)
        )
        return (np.outer(rows, columns).astype(np.float32) for rows in down for columns in across)


def overlap_of(tile: int) -> int:
    """How many latents two neighbouring tiles of this side share at least."""
    return max(MIN_OVERLAP, tile // _SHARE)


def make_tiling(size: Sides, tile: int) -> Tiling:
    """Windows of `tile` x `tile` latents over a plane, or of its own side if that is less."""
    window = (min(size[0], tile), min(size[1], tile))
    overlap = overlap_of(tile)
    tops, lefts = (_firsts(side, part, overlap) for side, part in zip(size, window, strict=True))
    return Tiling(size, window, tops, lefts)


def fit_tiling(size: Sides, unit: int, takes: Callable[[Sides], bool]) -> Tiling:
    """The whole plane, or the largest square tile, in multiples of `unit`, whose windows a network `takes`.

    The whole also if it takes no tile: it then says itself why not.
    """
    if not takes(size):
        least = -(-2 * MIN_OVERLAP // unit) * unit
        for tile in range((max(size) - 1) // unit * unit, least - 1, -unit):
            tiling = make_tiling(size, tile)
            if takes(tiling.window):
                return tiling
    return make_tiling(size, max(size))


def check_tile(tile: int | None, multiple: int, scale: int) -> None:
    """Raise OptionError unless a tile in pixels, of `scale` per latent, is a multiple that holds two overlaps."""
    if tile is None:
        return
    unit = math.lcm(multiple, scale)
    least = -(-2 * MIN_OVERLAP * scale // unit) * unit
    if not isinstance(tile, int) or isinstance(tile, bool) or tile < least or tile % unit:
        raise OptionError(f"tile is {tile!r}", remedy=f"It must be a multiple of {unit} pixels from {least} on")


def blend(run: Callable[[NDArray[Any]], NDArray[Any]], data: NDArray[Any], given: Tiling, made: Tiling) -> NDArray[Any]:
    """`[D, *made.size]` out of `[C, *given.size]` by a network that takes a window `[C, h, w]` and makes `[D, H, W]`.

    `given` and `made` are the same windows at two scales. One window is run as it is.
    """
    if made.count == 1:
        return run(data)
    whole: Plane | None = None
    for taken, window, weight in zip(given.windows(), made.windows(), made.weights(), strict=True):
        part = run(data[:, *taken])
        if whole is None:
            whole = np.zeros((len(part), *made.size), np.float32)
        whole[:, *window] += part * weight
    assert whole is not None
    return whole


def _firsts(side: int, window: int, overlap: int) -> tuple[int, ...]:
    """Where the fewest windows that share `overlap` begin, spread evenly from one border to the other."""
    steps = -(-(side - window) // (window - overlap)) if side > window else 0
    return tuple(round(step * (side - window) / steps) for step in range(steps + 1)) if steps else (0,)


def _shares(firsts: Sequence[int], window: int, side: int) -> list[NDArray[np.float64]]:
    """The weights of one axis, `[window]` each: those of neighbours cross over where they overlap, as sin^2 and cos^2.

    That is flat at both ends, so that neither a window's border, where the network saw zeros beyond, nor the place
    where its neighbour takes over shows. They need not be 1 in sum where three windows overlap, so that is seen to.
    """
    shares = [np.ones(window) for _ in firsts]
    for number in range(1, len(firsts)):
        overlap = firsts[number - 1] + window - firsts[number]
        rise = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / overlap) ** 2
        shares[number - 1][-overlap:] *= rise[::-1]
        shares[number][:overlap] *= rise
    total = np.zeros(side)
    for first, share in zip(firsts, shares, strict=True):
        total[first : first + window] += share
    return [share / total[first : first + window] for first, share in zip(firsts, shares, strict=True)]
