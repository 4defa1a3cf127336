"""A pool: slots of one working size on one step network, in which pictures advance together, each by its own row.

Pictures join and leave between any two steps, and company changes nothing: a picture's sums are over its own arrays.
After joining nothing is allocated. Must not import a backend.
"""

from collections.abc import Collection
from typing import Protocol

import numpy as np

from pixrt.backends.protocol import Array
from pixrt.core.conditioning import Latents
from pixrt.core.rows import LoopRows
from pixrt.core.track import COLUMNS, DEPTH, Steps, Track
from pixrt.maths.guidance import Branch

_COLUMN = {name: index for index, name in enumerate(COLUMNS)}
INPUT_SCALE, X, OUTPUT, NOISE = (_COLUMN[name] for name in ("input_scale", "x", "output", "noise"))
STORE_X, STORE_OUTPUT = _COLUMN["store_x"], _COLUMN["store_output"]
DENOISED_X, DENOISED_OUTPUT = _COLUMN["denoised_x"], _COLUMN["denoised_output"]
LOSS, ANCHOR_ALPHA, ANCHOR_SIGMA, ANCHOR_DENOISED = (
    _COLUMN[name] for name in ("loss", "anchor_alpha", "anchor_sigma", "anchor_denoised")
)
HISTORY = _COLUMN["history_0"]


class Pool(Protocol):
    """What drives pictures step by step, on the host or on a device."""

    def fits(self, steps: Steps) -> bool:
        """Whether a slot is free, and the network takes a picture's rows beside those of the others."""

    def join(self, track: Track) -> int:
        """Give a picture a slot; it takes part from the next step on."""

    def step(self, slots: Collection[int] | None = None) -> list[int]:
        """Advance the pictures in these slots, or in all, by one step each; the slots of those that have ended.

        May return before a device has run it. Raises BackendError: then no picture has advanced on the host, and on a
        device the states are lost.
        """

    def wait(self) -> None:
        """Return when the last step has run. Raises BackendError if it failed."""

    def leave(self, slot: int) -> Latents:
        """Free a slot, ended or not; the picture's state, `[C, h, w]`."""

    def latents(self, slot: int) -> Latents:
        """A copy of a picture's state `[C, h, w]`, in the solver's own scale."""

    def denoised(self, slot: int) -> Latents:
        """The clean latents `[C, h, w]` that a picture's last step predicts."""

    @property
    def bytes(self) -> int:
        """Size of all arrays."""


class Occupancy:
    """Which slots are taken, by which tracks, and how far each has come: what every pool keeps."""

    def __init__(self, slots: int, most_rows: int) -> None:
        self.tracks: list[Track | None] = [None] * slots
        self.at = [0] * slots
        self._most_rows = most_rows

    def fits(self, steps: Steps) -> bool:
        """Whether a slot is free, and the rows are; a first picture always fits: the engine says what it takes."""
        others = [each.steps.most_branches for each in self.tracks if each is not None]
        fits = sum(others) + steps.most_branches <= self._most_rows
        return None in self.tracks and (fits or not others)

    def join(self, track: Track) -> int:
        """The first free slot."""
        slot = self.tracks.index(None)
        self.tracks[slot], self.at[slot] = track, 0
        return slot

    def stepping(self, slots: Collection[int] | None) -> list[int]:
        """The slots that advance: those asked for, or all, in which pictures have steps left."""
        return [
            slot
            for slot, track in enumerate(self.tracks)
            if track is not None and self.at[slot] < len(track) and (slots is None or slot in slots)
        ]

    def branches(self, slot: int) -> tuple[Branch, ...]:
        """The branches that a slot's next step runs."""
        return self.track(slot).steps.branches[self.at[slot]]

    def track(self, slot: int) -> Track:
        """The picture in a slot."""
        track = self.tracks[slot]
        assert track is not None, f"slot {slot} is free"
        return track

    def advance(self, slots: Collection[int]) -> list[int]:
        """Count a step; those that have ended."""
        for slot in slots:
            self.at[slot] += 1
        return [slot for slot in slots if self.at[slot] == len(self.track(slot))]

    def leave(self, slot: int) -> None:
        """Free a slot."""
        self.tracks[slot] = None


class HostPool:
    """A pool whose states are in the host's memory; the network runs wherever its rows are."""

    def __init__(self, rows: LoopRows, slots: int, shape: tuple[int, int, int], most_rows: int) -> None:
        self._rows = rows
        self._occupancy = Occupancy(slots, most_rows)
        self._scratch: Latents = np.zeros(shape, np.float32)
        self._slots = [_Slot(shape) for _ in range(slots)]

    def fits(self, steps: Steps) -> bool:
        """See `Pool.fits`."""
        return self._occupancy.fits(steps)

    def join(self, track: Track) -> int:
        """See `Pool.join`. Allocates what the slot has not needed before, such as room for more draws of noise."""
        slot = self._occupancy.join(track)
        try:
            self._slots[slot].begin(track)
        except BaseException:
            self._occupancy.leave(slot)
            raise
        return slot

    def step(self, slots: Collection[int] | None = None) -> list[int]:
        """See `Pool.step`."""
        occupancy, rows, row = self._occupancy, self._rows, 0
        stepping = occupancy.stepping(slots)
        for slot in stepping:
            at, track = occupancy.at[slot], occupancy.track(slot)
            branches, conditioning, first = track.steps.branches[at], track.conditioning, row
            for branch in branches:
                rows.hold(row, conditioning.contexts[branch], conditioning.sources.get(branch))
                row += 1
            rows.timestep[first:row] = track.steps.timesteps[at]
            self._slots[slot].write(at, rows.noisy[first:row])
        if stepping:
            rows.run(row)
        row = 0
        for slot in stepping:
            at, branches = occupancy.at[slot], occupancy.branches(slot)
            self._slots[slot].update(at, branches, rows.output[row : row + len(branches)], self._scratch)
            row += len(branches)
        return occupancy.advance(stepping)

    def wait(self) -> None:
        """The host has run what it was asked for."""

    def leave(self, slot: int) -> Latents:
        """See `Pool.leave`."""
        latents = self.latents(slot)
        self._slots[slot].end()
        self._occupancy.leave(slot)
        return latents

    def latents(self, slot: int) -> Latents:
        """See `Pool.latents`."""
        return self._slots[slot].states[self._occupancy.at[slot] % 2].copy()

    def denoised(self, slot: int) -> Latents:
        """See `Pool.denoised`; before the first step it is all zeros."""
        return self._slots[slot].denoised(self._occupancy.at[slot])

    @property
    def bytes(self) -> int:
        """See `Pool.bytes`."""
        return self._rows.bytes + self._scratch.nbytes + sum(slot.bytes for slot in self._slots)


class _Anchored:
    """Where a slot's state is held or steered, and to what; all `[C, h, w]`, and zero where the latents are free.

    `where` is the same for every channel: NumPy would allocate to multiply by `[1, h, w]`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.where: Latents = np.zeros(shape, np.float32)
        self.latents: Latents = np.zeros(shape, np.float32)
        self.noise: Latents = np.zeros(shape, np.float32)
        self.product: Latents = np.zeros(shape, np.float32)


class _Slot:
    """One picture's state, what its solver remembers, its noise, and what it is held to."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.states = (np.zeros(shape, np.float32), np.zeros(shape, np.float32))  # the loop alternates between them
        self._guided: Latents = np.zeros(shape, np.float32)
        self._noise: Array = np.zeros((0, *shape), np.float32)
        self._history: list[Latents] = []
        self._anchored: _Anchored | None = None
        self._coefficients: list[list[float]] = []
        self._guidance: list[list[float]] = []
        self._is_anchored = False

    def begin(self, track: Track) -> None:
        """Write a picture's start, its noise, and what stays the same over its steps."""
        steps, shape = track.steps, self._guided.shape
        if len(self._noise) < steps.draws:
            self._noise = np.zeros((steps.draws, *shape), np.float32)
        if steps.draws:
            noise = self._noise[: steps.draws]
            track.draw(noise)
            np.multiply(noise, steps.coefficients[:, NOISE, None, None, None], out=noise)
        if steps.table.depth and not self._history:
            self._history = [np.zeros(shape, np.float32) for _ in range(DEPTH)]
        anchor = track.conditioning.anchor
        self._is_anchored = anchor is not None
        if anchor is not None:
            self._anchored = anchored = self._anchored or _Anchored(shape)
            anchored.where[:] = anchor.where
            np.multiply(anchor.latents, anchored.where, out=anchored.latents)
            np.multiply(track.initial_noise, anchored.where, out=anchored.noise)
        np.copyto(self.states[0], track.start)
        self._guided.fill(0)
        self._coefficients, self._guidance = steps.coefficients.tolist(), steps.guidance.tolist()

    def write(self, at: int, noisy: Array) -> None:
        """The network's input of a step, the same in each of `noisy` `[rows, C, h, w]`."""
        np.multiply(self.states[at % 2], self._coefficients[at][INPUT_SCALE], out=noisy)

    def update(self, at: int, branches: tuple[Branch, ...], outputs: Latents, scratch: Latents) -> None:
        """The state after a step, out of the network's outputs `[rows, C, h, w]`; see `track`. Zeros are not added."""
        c, weights, guided = self._coefficients[at], self._guidance[at], self._guided
        x, moved = self.states[at % 2], self.states[(at + 1) % 2]
        np.multiply(outputs[0], weights[branches[0]], out=guided)
        for output, branch in zip(outputs[1:], branches[1:], strict=True):
            np.multiply(output, weights[branch], out=output)
            np.add(guided, output, out=guided)
        np.multiply(x, c[X], out=moved)
        _add(moved, c[OUTPUT], guided, scratch)
        if c[NOISE]:
            np.add(moved, self._noise[at], out=moved)
        for ago in range(min(at, DEPTH)):
            if c[HISTORY + ago]:
                _add(moved, c[HISTORY + ago], self._history[(at - 1 - ago) % DEPTH], scratch)
        if self._is_anchored:
            self._move_to_anchor(c, x, moved, scratch)
        if c[STORE_X] or c[STORE_OUTPUT]:  # in the place of the oldest, which has been read
            stored = self._history[at % DEPTH]
            np.multiply(guided, c[STORE_OUTPUT], out=stored)
            if c[STORE_X]:
                _add(stored, c[STORE_X], x, scratch)

    def _move_to_anchor(self, c: list[float], x: Latents, moved: Latents, scratch: Latents) -> None:
        """Hold the state to the anchor, or steer it. Where it is held, nothing of it is left, to the bit."""
        anchored = self._anchored
        assert anchored is not None
        product = anchored.product
        if c[LOSS]:
            np.multiply(moved, anchored.where, out=product)
            np.multiply(product, c[LOSS], out=product)
            np.subtract(moved, product, out=moved)
        if c[ANCHOR_DENOISED]:
            np.multiply(self._guided, c[ANCHOR_DENOISED] * c[DENOISED_OUTPUT], out=product)
            _add(product, c[ANCHOR_DENOISED] * c[DENOISED_X], x, scratch)
            np.multiply(product, anchored.where, out=product)
            np.add(moved, product, out=moved)
        if c[ANCHOR_ALPHA]:
            _add(moved, c[ANCHOR_ALPHA], anchored.latents, scratch)
        if c[ANCHOR_SIGMA]:
            _add(moved, c[ANCHOR_SIGMA], anchored.noise, scratch)

    def denoised(self, done: int) -> Latents:
        """The clean latents that the last of the steps that were done predicts."""
        if not done:
            return np.zeros_like(self._guided)
        c, x = self._coefficients[done - 1], self.states[(done - 1) % 2]
        predicted: Latents = self._guided * np.float32(c[DENOISED_OUTPUT]) + x * np.float32(c[DENOISED_X])
        return predicted

    def end(self) -> None:
        """Forget the picture, and not the arrays: what a picture stored must not reach the next one."""
        for stored in self._history:
            stored.fill(0)

    @property
    def bytes(self) -> int:
        """Size of its arrays."""
        count = len(self.states) + 1 + len(self._history) + (4 if self._anchored else 0)
        return count * self._guided.nbytes + self._noise.nbytes


def _add(total: Latents, factor: float, array: Latents, scratch: Latents) -> None:
    """`total += factor * array`, without allocating."""
    np.multiply(array, factor, out=scratch)
    np.add(total, scratch, out=total)
