"""A pool: slots of one working size on one step network, in which pictures advance together, each by its own row.

Pictures join and leave between any two steps, and company changes nothing: a picture's sums are over its own arrays.
After joining nothing is allocated. Must not import a backend.
"""

from collections.abc import Collection
from typing import Protocol, TypeAlias

import numpy as np

from pixrt.core.conditioning import Latents
from pixrt.core.rows import LoopRows
from pixrt.core.slot import Place, Scratch, Slot
from pixrt.core.track import Track
from pixrt.maths.guidance import Branch
from pixrt.maths.reuse import Branches, without

Placed: TypeAlias = tuple[int, Track | None, Branches, Branches, Branches]
"""What a slot's step needs: its picture; the branches that are computed, and held; of the first those in shallow."""


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

    def placed(self, slots: Collection[int]) -> list[Placed]:
        """What these slots' next steps need in the networks' rows."""
        found, at = [], self.at
        for slot in slots:
            steps, now = self.tracks[slot].steps, at[slot]  # type: ignore[union-attr]
            found.append((slot, self.tracks[slot], steps.branches[now], steps.held[now], steps.shallow[now]))
        return found

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
    """A pool whose states are in the host's memory; the network runs wherever its rows are.

    `shallow` are the rows of the shallow network, for pictures that use features again: a step runs both networks then,
    each on its own rows, packed.
    """

    def __init__(
        self, rows: LoopRows, slots: int, shape: tuple[int, int, int], shallow: LoopRows | None = None
    ) -> None:
        self._rows = rows
        self._shallow = shallow
        self._occupancy = Occupancy(slots)
        self._scratch = Scratch(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        self._slots = [Slot(shape, rows.make_features) for _ in range(slots)]
        self._placed: list[Placed] = []  # what the networks' rows hold, in order,
        self._places: list[Place] = []  # where,
        self._used = (0, 0)  # and how many of each network

    @property
    def has_room(self) -> bool:
        """See `Pool.has_room`."""
        return self._occupancy.has_room

    def join(self, track: Track) -> int:
        """See `Pool.join`. Allocates what the slot has not needed before, such as room for more draws of noise."""
        assert self._shallow is not None or not track.steps.caches, "the pool has no shallow network"
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
        whole, shallow = self._used
        if whole:
            self._rows.run(whole)
        if shallow and self._shallow is not None:
            self._shallow.run(shallow)
        for slot, place in zip(stepping, places, strict=True):
            own[slot].update(at[slot], place, self._scratch)
        return occupancy.advance(stepping)

    def _place(self, placed: list[Placed]) -> None:
        """Write the texts and sources of pictures into the networks' rows, densely, in order."""
        self._placed = []  # nothing is known of rows if this fails
        places, used = [], [0, 0]
        for slot, track, branches, held, shallow in placed:
            assert track is not None
            own, inputs, outputs = self._slots[slot], [], dict[Branch, Latents]()
            for network, (rows, its) in enumerate(
                ((self._rows, without(branches, shallow) if shallow else branches), (self._shallow, shallow))
            ):
                if rows is None or not its:
                    continue
                first = used[network]
                for row, branch in enumerate(its, first):
                    rows.hold(row, track.conditioning.contexts[branch], track.conditioning.sources.get(branch))
                    rows.link(row, own.features.get(branch))
                    outputs[branch] = rows.output[row]
                used[network] = last = first + len(its)
                inputs.append((rows.noisy[first:last], rows.timestep[first:last]))
            compared = outputs[branches[0]]
            kept = tuple(
                (outputs[branch], compared, own.differences[branch]) for branch in outputs if branch in own.differences
            )
            again = tuple((own.differences[branch], compared, own.predictions[branch]) for branch in held)
            outputs |= {branch: own.predictions[branch] for branch in held}
            places.append(Place(tuple(inputs), tuple(sorted(outputs.items(), key=_branch)), kept, again))
        self._placed, self._places, self._used = placed, places, (used[0], used[1])

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
        networks = self._rows.bytes + (0 if self._shallow is None else self._shallow.bytes)
        return networks + 3 * self._scratch.product.nbytes + sum(slot.bytes for slot in self._slots)


def _branch(output: tuple[Branch, Latents]) -> Branch:
    return output[0]
