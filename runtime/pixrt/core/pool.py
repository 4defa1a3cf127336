"""A pool: slots of one working size on one step network, in which pictures advance together, each by its own row.

Pictures join and leave between any two steps, and company changes nothing: a picture's sums are over its own arrays.
After joining nothing is allocated. Must not import a backend.
"""

from collections.abc import Collection
from typing import Protocol

import numpy as np

from pixrt.core.conditioning import Latents
from pixrt.core.rows import LoopRows
from pixrt.core.slot import Place, Scratch, Slot
from pixrt.core.track import Track
from pixrt.maths.guidance import Branch


class Pool(Protocol):
    """What drives pictures step by step, on the host or on a device."""

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""

    def join(self, track: Track) -> int:
        """Give a picture a slot; it takes part from the next step on."""

    def step(self, slots: Collection[int] | None = None) -> list[int]:
        """Advance the pictures in these slots, or in all, by one step each; the slots of those that have ended.

        They must not need more rows together than the network takes. May return before a device has run it. Raises
        BackendError: then no picture has advanced on the host, and on a device the states are lost.
        """

    def wait(self) -> None:
        """Return when the last step has run. Raises BackendError if it failed."""

    def leave(self, slot: int) -> Latents:
        """Free a slot, ended or not; the picture's state, `[C, h, w]`."""

    def latents(self, slot: int) -> Latents:
        """A copy of a picture's state `[C, h, w]`, in the solver's own scale."""

    def denoised(self, slot: int) -> Latents:
        """The clean latents `[C, h, w]` that a picture's last step predicts; until the next step of any."""

    @property
    def bytes(self) -> int:
        """Size of all arrays."""


class Occupancy:
    """Which slots are taken, by which tracks, and how far each has come: what every pool keeps."""

    def __init__(self, slots: int) -> None:
        self.tracks: list[Track | None] = [None] * slots
        self.at = [0] * slots

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return None in self.tracks

    def join(self, track: Track) -> int:
        """The first free slot."""
        slot = self.tracks.index(None)
        self.tracks[slot], self.at[slot] = track, 0
        return slot

    def stepping(self, slots: Collection[int] | None) -> list[int]:
        """The slots that advance: those asked for, or all, in which pictures have steps left."""
        at = self.at
        return [
            slot
            for slot, track in enumerate(self.tracks)
            if track is not None and at[slot] < len(track.steps.branches) and (slots is None or slot in slots)
        ]

    def placed(self, slots: Collection[int]) -> list[tuple[Track | None, tuple[Branch, ...]]]:
        """What these slots' next steps need in the network's rows: by picture, the branches that run."""
        tracks, at = self.tracks, self.at
        return [(tracks[slot], tracks[slot].steps.branches[at[slot]]) for slot in slots]  # type: ignore[union-attr]

    def track(self, slot: int) -> Track:
        """The picture in a slot."""
        track = self.tracks[slot]
        assert track is not None, f"slot {slot} is free"
        return track

    def advance(self, slots: Collection[int]) -> list[int]:
        """Count a step; those that have ended."""
        tracks, at, ended = self.tracks, self.at, []
        for slot in slots:
            at[slot] += 1
            if at[slot] == len(tracks[slot].steps.branches):  # type: ignore[union-attr]
                ended.append(slot)
        return ended

    def leave(self, slot: int) -> None:
        """Free a slot."""
        self.tracks[slot] = None


class HostPool:
    """A pool whose states are in the host's memory; the network runs wherever its rows are."""

    def __init__(self, rows: LoopRows, slots: int, shape: tuple[int, int, int]) -> None:
        self._rows = rows
        self._occupancy = Occupancy(slots)
        self._scratch = Scratch(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        self._slots = [Slot(shape) for _ in range(slots)]
        self._placed: list[tuple[Track | None, tuple[Branch, ...]]] = []  # what the network's rows hold, in order,
        self._places: list[Place] = []  # and where

    @property
    def has_room(self) -> bool:
        """See `Pool.has_room`."""
        return self._occupancy.has_room

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
        occupancy = self._occupancy
        stepping = occupancy.stepping(slots)
        if not stepping:
            return []
        placed = occupancy.placed(stepping)
        if placed != self._placed:
            self._place(placed)
        at, own, places = occupancy.at, self._slots, self._places
        for slot, place in zip(stepping, places, strict=True):
            own[slot].write(at[slot], place)
        self._rows.run(places[-1].last)
        for slot, place in zip(stepping, places, strict=True):
            own[slot].update(at[slot], place, self._scratch)
        return occupancy.advance(stepping)

    def _place(self, placed: list[tuple[Track | None, tuple[Branch, ...]]]) -> None:
        """Write the texts and sources of pictures into the network's rows, densely, in order."""
        self._placed, rows, row = [], self._rows, 0  # nothing is known of rows if this fails
        places = []
        for track, branches in placed:
            assert track is not None
            conditioning, first = track.conditioning, row
            for branch in branches:
                rows.hold(row, conditioning.contexts[branch], conditioning.sources.get(branch))
                row += 1
            outputs = tuple((branch, rows.output[first + index]) for index, branch in enumerate(branches))
            places.append(Place(row, rows.noisy[first:row], rows.timestep[first:row], outputs))
        self._placed, self._places = placed, places

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
        return self._rows.bytes + 3 * self._scratch.product.nbytes + sum(slot.bytes for slot in self._slots)
