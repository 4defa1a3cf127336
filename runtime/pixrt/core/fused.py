"""The fused step: input scaling, the network, guidance and the solver's update as one graph, one call per step.

Between the first and the last step no latents cross to the host. Everything that differs from step to step is a row of
a slot's table, on the device since the picture joined; a step names the rows, 4 bytes a slot. Letters: B slots, R rows
(network evaluations), T rows of a table. Must not import a backend.

The graph computes what `track` says for every slot, with the row of `table` `[B, T, TABLE and paused]` that `at`
picks, and for the slot b with the rows r = branch_rows[b] of its three branches

    sample[r]   = concat(input_scale * latents[row_to_latents[r]], source[row_to_source[r]])
    timestep[r] = the timestep of slot row_to_latents[r]
    output[b]   = sum over branches of guidance[b] * network(sample, timestep, context)[branch_rows[b]]

and where a row says `paused` the slot keeps its latents and its history to the bit. Nothing in the graph is common to
two slots.
"""

from collections.abc import Collection

import numpy as np

from pixrt.backends.host import bind_loop
from pixrt.backends.protocol import Array, Engine, LoopLayout
from pixrt.core.conditioning import Latents
from pixrt.core.pool import Occupancy
from pixrt.core.rows import Taken, padded
from pixrt.core.track import DEPTH, TABLE, Track
from pixrt.maths.guidance import Branch

STEPS = 1024  # rows of a table: the most steps that options allow, PNDM's one more, and one in which a slot is paused
PAUSED = STEPS - 1
STEP_TABLE = (*TABLE, "paused")
LAYOUT = LoopLayout(
    carried={"latents": "next_latents", "history": "next_history"},
    rows=frozenset({"context", "row_to_latents", "row_to_source"}),
    table="table",
    index="at",
    streamed=frozenset({"noise"}),
)
# One array per index for good: what is held keeps its identity.
_INDICES = tuple(np.array(index, np.int32) for index in range(256))


class FusedPool:
    """See `Pool`: slots on a loop, of h x w latents.

    There is `room` for so many rows, one picture's at least. `taken` are the numbers of rows that the engine takes.
    """

    def __init__(
        self,
        engine: Engine,
        slots: int,
        size: tuple[int, int],
        tokens: int,
        room: int,
        taken: Taken = (),
    ) -> None:
        table = {tensor.name: tensor for tensor in (*engine.inputs, *engine.outputs)}
        channels = table["latents"].fixed(1)
        self._occupancy = Occupancy(slots)
        self._shape = (channels, *size)
        self._has_source = "source" in table
        self._padded = [padded(count, taken) for count in range(room + 1)]
        rows = max(self._padded)
        latents, history = (slots, *self._shape), (slots, DEPTH, *self._shape)
        shapes: dict[str, tuple[int, ...]] = {
            "latents": latents,
            "history": history,
            "noise": latents,
            "context": (rows, tokens, table["context"].fixed(2)),
            "row_to_latents": (rows,),
            "branch_rows": (slots, len(Branch)),
            "table": (slots, STEPS, len(STEP_TABLE)),
            "at": (slots,),
            "where": (slots, 1, *size),
            "anchor": latents,
            "anchor_noise": latents,
            "next_latents": latents,
            "next_history": history,
            "denoised": latents,
        }
        if self._has_source:
            # The null picture is the last of the sources.
            shapes |= {"source": (slots + 1, table["source"].fixed(1), *size), "row_to_source": (rows,)}
        self._loop = bind_loop(engine, shapes, LAYOUT)
        self._nothing: Latents = np.zeros(self._shape, np.float32)
        self._nowhere: Latents = np.zeros((1, *size), np.float32)
        self._held: dict[tuple[str, int], Array] = {}
        self._picked: dict[tuple[int, ...], Array] = {}
        if self._has_source:
            self._hold("source", slots, np.zeros(shapes["source"][1:], table["source"].dtype))
        paused = np.zeros((STEPS, len(STEP_TABLE)), np.float32)
        paused[PAUSED, -1] = 1
        for slot in range(slots):
            self._loop.load(slot, {"table": paused}, {})
        self.bytes = sum(int(np.prod(shape)) * np.dtype(table[name].dtype).itemsize for name, shape in shapes.items())

    @property
    def has_room(self) -> bool:
        """See `Pool.has_room`."""
        return self._occupancy.has_room

    def join(self, track: Track) -> int:
        """See `Pool.join`: writes the slot's own rows, and nothing of other slots."""
        assert not track.steps.holds, "the graph computes every branch at every step"
        assert not track.steps.caches, "the graph runs the whole network at every step"
        slot = self._occupancy.join(track)
        try:
            self._begin(slot, track)
        except BaseException:
            self._occupancy.leave(slot)
            raise
        return slot

    def _begin(self, slot: int, track: Track) -> None:
        steps, anchor = track.steps, track.conditioning.anchor
        table = np.zeros((len(steps), len(STEP_TABLE)), np.float32)  # the paused row is there for good
        table[:, :-1] = steps.rows
        noise = np.zeros((steps.draws, *self._shape), np.float32)
        track.draw(noise)
        sources = track.conditioning.sources
        if self._has_source and sources:
            self._hold("source", slot, next(iter(sources.values())))
        given = {
            "table": table,
            "latents": track.start,
            "where": anchor.where if anchor else self._nowhere,
            "anchor": anchor.latents if anchor else self._nothing,
            "anchor_noise": track.initial_noise if anchor else self._nothing,
        }
        self._loop.load(slot, given, {"noise": noise} if steps.draws else {})

    def step(self, slots: Collection[int] | None = None) -> list[int]:
        """See `Pool.step`. Rows are written anew only where another picture or branch has come to them."""
        occupancy, row = self._occupancy, 0
        stepping = occupancy.stepping(slots)
        at = [PAUSED] * len(occupancy.tracks)
        for slot in set(range(len(at))).difference(stepping):
            self._hold_branches(slot, (0, 0, 0))  # a row that there is, whatever number of them runs
        for slot in stepping:
            at[slot], track = occupancy.at[slot], occupancy.track(slot)
            branches, conditioning = track.steps.branches[at[slot]], track.conditioning
            # A branch that does not run has the picture's own first row and a weight of zero, so that no value of
            # another picture, finite or not, can enter.
            picked = [row] * len(Branch)
            for number, branch in enumerate(branches, row):
                picked[branch] = number
                self._hold("context", number, conditioning.contexts[branch])
                self._hold("row_to_latents", number, _INDICES[slot])
                if self._has_source:
                    has_source = branch in conditioning.sources
                    self._hold("row_to_source", number, _INDICES[slot if has_source else len(at)])
            self._hold_branches(slot, tuple(picked))
            row += len(branches)
        if stepping:
            self._loop.step(at, self._padded[row])
        return occupancy.advance(stepping)

    def wait(self) -> None:
        """See `Pool.wait`."""
        self._loop.wait()

    def leave(self, slot: int) -> Latents:
        """See `Pool.leave`."""
        latents = self.latents(slot)
        self._occupancy.leave(slot)
        return latents

    def latents(self, slot: int) -> Latents:
        """See `Pool.latents`."""
        if self._occupancy.at[slot]:
            return self._loop.read("next_latents", slot)
        return self._occupancy.track(slot).start.copy()

    def denoised(self, slot: int) -> Latents:
        """See `Pool.denoised`."""
        return self._loop.read("denoised", slot)

    def _hold(self, name: str, row: int, values: Array) -> None:
        if self._held.get((name, row)) is not values:
            self._loop.hold(name, row, values)
            self._held[name, row] = values

    def _hold_branches(self, slot: int, picked: tuple[int, ...]) -> None:
        """`picked` are the rows of a slot's branches; the same rows are always the same array."""
        if picked not in self._picked:
            self._picked[picked] = np.array(picked, np.int32)
        self._hold("branch_rows", slot, self._picked[picked])
