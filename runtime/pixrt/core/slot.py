"""A slot of a pool on the host: one picture's state, and the sums that move it by the rows of its track.

The sums are those of `track`; what is multiplied by zero is not read, and nothing is allocated between steps. Must not
import a backend.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array
from pixrt.core.conditioning import Latents
from pixrt.core.rows import Features
from pixrt.core.track import DEPTH, GUIDANCE, TABLE, Track
from pixrt.maths.guidance import Branch

_AT = {name: index for index, name in enumerate(TABLE)}
INPUT_SCALE, X, OUTPUT, NOISE = (_AT[name] for name in ("input_scale", "x", "output", "noise"))
STORE_X, STORE_OUTPUT = _AT["store_x"], _AT["store_output"]
DENOISED_X, DENOISED_OUTPUT = _AT["denoised_x"], _AT["denoised_output"]
LOSS, ANCHOR_ALPHA, ANCHOR_SIGMA, ANCHOR_DENOISED = (
    _AT[name] for name in ("loss", "anchor_alpha", "anchor_sigma", "anchor_denoised")
)
HISTORY, WEIGHT, TIMESTEP = _AT["history_0"], _AT[GUIDANCE[0]], _AT["timestep"]
FOLDED = len(TABLE)  # behind a step's row: each branch's weight times the output's coefficient
Number = NDArray[np.float32]
"""A float32 array of no dimension, which NumPy multiplies by without making one of a Python number."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a picture is among the rows of one network or of two.

    Attributes:
        inputs: what it writes there, latents and timesteps.
        outputs: what it reads of each branch: of the network's rows, or what it kept of an earlier step.
        kept: predictions of this step whose difference to that of its first branch is kept: both, and where.
        held: of earlier steps such a difference, this step's first prediction, and where their sum is to be.
    """

    inputs: tuple[tuple[Array, NDArray[np.float32]], ...]
    outputs: tuple[tuple[Branch, Latents], ...]
    kept: tuple[tuple[Latents, Latents, Latents], ...]
    held: tuple[tuple[Latents, Latents, Latents], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scratch:
    """What the sums of all slots use in turn."""

    product: Latents
    guided: Latents
    moved: Latents


class Anchored:
    """Where a slot's state is held or steered, and to what; all `[C, h, w]`, and zero where the latents are free.

    `where` is the same for every channel: NumPy would allocate to multiply by `[1, h, w]`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.where: Latents = np.zeros(shape, np.float32)
        self.latents: Latents = np.zeros(shape, np.float32)
        self.noise: Latents = np.zeros(shape, np.float32)


class Slot:
    """One picture's state, what its solver remembers, its noise, and what it is held to.

    And what of its steps is used again: `differences`, `predictions` made of them, and by `make_features` the room for
    `features`, of those branches that use them again.
    """

    def __init__(self, shape: tuple[int, int, int], make_features: Callable[[], Features] = tuple) -> None:
        self.states = (np.zeros(shape, np.float32), np.zeros(shape, np.float32))  # steps alternate between them
        self._noise: Array = np.zeros((0, *shape), np.float32)
        self._history: list[Latents] = []
        self._anchored: Anchored | None = None
        self._is_anchored = False
        self._numbers: list[tuple[Number, ...]] = []  # of every step those of its row,
        self._values: list[list[float]] = []  # and the same, to ask which are zero
        self._outputs: tuple[tuple[Branch, Latents], ...] = ()
        self._make_features = make_features
        # Of all pictures so far: differences and predictions, and features.
        self._stored: tuple[dict[Branch, tuple[Latents, Latents]], dict[Branch, Features]] = {}, {}
        self.differences: dict[Branch, Latents] = {}
        self.predictions: dict[Branch, Latents] = {}
        self.features: dict[Branch, Features] = {}

    def begin(self, track: Track) -> None:
        """Write a picture's start, its noise, and what stays the same over its steps."""
        steps, shape = track.steps, self.states[0].shape
        if len(self._noise) < steps.draws:
            self._noise = np.zeros((steps.draws, *shape), np.float32)
        if steps.draws:
            noise = self._noise[: steps.draws]
            track.draw(noise)
            np.multiply(noise, steps.rows[:, NOISE, None, None, None], out=noise)
        if steps.table.depth and not self._history:
            self._history = [np.zeros(shape, np.float32) for _ in range(DEPTH)]
        anchor = track.conditioning.anchor
        self._is_anchored = anchor is not None
        if anchor is not None:
            self._anchored = anchored = self._anchored or Anchored(shape)
            anchored.where[:] = anchor.where
            np.multiply(anchor.latents, anchored.where, out=anchored.latents)
            np.multiply(track.initial_noise, anchored.where, out=anchored.noise)
        predictions, features = self._stored
        for branch in set().union(*steps.held).difference(predictions):
            predictions[branch] = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for branch in set().union(*steps.shallow).difference(features):
            features[branch] = self._make_features()
        self.differences = {branch: predictions[branch][0] for branch in set().union(*steps.held)}
        self.predictions = {branch: predictions[branch][1] for branch in self.differences}
        self.features = {branch: features[branch] for branch in set().union(*steps.shallow)}
        np.copyto(self.states[0], track.start)
        rows = np.column_stack((steps.rows, steps.rows[:, OUTPUT, None] * steps.guidance))
        self._numbers = [tuple(row[column, ...] for column in range(len(row))) for row in rows]
        self._values = rows.tolist()

    def write(self, at: int, place: Place) -> None:
        """The network's input of a step, the same in each of the picture's rows."""
        values, state = self._values[at], self.states[at % 2]
        for noisy, timestep in place.inputs:
            timestep.fill(values[TIMESTEP])
            if values[INPUT_SCALE] == 1:
                np.copyto(noisy, state)
            else:
                np.multiply(state, self._numbers[at][INPUT_SCALE], out=noisy)

    def update(self, at: int, place: Place, scratch: Scratch) -> None:
        """The state after a step, out of the network's outputs."""
        c, value, product = self._numbers[at], self._values[at], scratch.product
        x, moved = self.states[at % 2], self.states[(at + 1) % 2]
        self._outputs = place.outputs
        for prediction, first, difference in place.kept:
            np.subtract(prediction, first, out=difference)
        for difference, first, prediction in place.held:
            np.add(difference, first, out=prediction)
        np.multiply(x, c[X], out=moved)
        if value[STORE_OUTPUT] or value[ANCHOR_DENOISED]:  # the guided output is used more than once
            guide(place.outputs, c, scratch.guided, product)
            add(moved, c[OUTPUT], scratch.guided, product)
        else:
            for branch, output in place.outputs:
                np.multiply(output, c[FOLDED + branch], out=product)
                np.add(moved, product, out=moved)
        if value[NOISE]:
            np.add(moved, self._noise[at], out=moved)
        for ago in range(min(at, DEPTH)):
            if value[HISTORY + ago]:
                add(moved, c[HISTORY + ago], self._history[(at - 1 - ago) % DEPTH], product)
        if self._is_anchored:
            self._move_to_anchor(at, x, moved, scratch)
        if value[STORE_OUTPUT]:  # in the place of the oldest, which has been read
            stored = self._history[at % DEPTH]
            np.multiply(scratch.guided, c[STORE_OUTPUT], out=stored)
            if value[STORE_X]:
                add(stored, c[STORE_X], x, product)

    def _move_to_anchor(self, at: int, x: Latents, moved: Latents, scratch: Scratch) -> None:
        """Hold the state to the anchor, or steer it. Where it is held, nothing of it is left, to the bit."""
        anchored, c, value, way = self._anchored, self._numbers[at], self._values[at], scratch.moved
        assert anchored is not None
        if value[LOSS]:
            np.multiply(moved, anchored.where, out=way)
            np.multiply(way, c[LOSS], out=way)
            np.subtract(moved, way, out=moved)
        if value[ANCHOR_DENOISED]:
            np.multiply(scratch.guided, c[DENOISED_OUTPUT], out=way)
            add(way, c[DENOISED_X], x, scratch.product)
            np.multiply(way, c[ANCHOR_DENOISED], out=way)
            np.multiply(way, anchored.where, out=way)
            np.add(moved, way, out=moved)
        if value[ANCHOR_ALPHA]:
            add(moved, c[ANCHOR_ALPHA], anchored.latents, scratch.product)
        if value[ANCHOR_SIGMA]:
            add(moved, c[ANCHOR_SIGMA], anchored.noise, scratch.product)

    def denoised(self, done: int) -> Latents:
        """The clean latents that the last of the steps that were done predicts; zeros before the first."""
        guided = np.zeros_like(self.states[0])
        if done:
            c = self._numbers[done - 1]
            guide(self._outputs, c, guided, np.zeros_like(guided))
            np.multiply(guided, c[DENOISED_OUTPUT], out=guided)
            add(guided, c[DENOISED_X], self.states[(done - 1) % 2], np.zeros_like(guided))
        return guided

    def end(self) -> None:
        """Forget the picture, and not the arrays: what a picture stored must not reach the next one."""
        self._outputs = ()
        for stored in self._history:
            stored.fill(0)

    @property
    def bytes(self) -> int:
        """Size of its arrays."""
        predictions, features = self._stored
        count = len(self.states) + len(self._history) + (3 if self._anchored else 0) + 2 * len(predictions)
        deep = sum(feature.nbytes for each in features.values() for feature in each)
        return count * self.states[0].nbytes + self._noise.nbytes + deep


def guide(
    outputs: tuple[tuple[Branch, Latents], ...], c: tuple[Number, ...], guided: Latents, product: Latents
) -> None:
    """`guided` becomes the sum of the branches' outputs by their weights."""
    (first, output), *others = outputs
    np.multiply(output, c[WEIGHT + first], out=guided)
    for branch, output in others:
        add(guided, c[WEIGHT + branch], output, product)


def add(total: Latents, factor: Number, array: Latents, product: Latents) -> None:
    """`total += factor * array`, without allocating."""
    np.multiply(array, factor, out=product)
    np.add(total, product, out=total)
