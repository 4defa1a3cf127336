"""The fused step: input scaling, the network, guidance and the solver's update as one graph, one call per step.

Nothing has to cross to the host between the first and the last step. Everything that differs from step to step is a row
of a table. Letters: B pictures, R rows (network evaluations), S source latents, N steps. Must not import a backend.

The graph computes, for picture b with the rows r = branch_rows[b] of its three branches, and its stored predictions p,

    sample[r] = concat(input_scale * x[row_to_latents[r]], source[row_to_source[r]])
    output[b] = sum over branches of guidance[b] * network(sample, timestep, context)[branch_rows[b]]
    stored    = store_x * x + store_output * output
    moved     = x_coefficient * x + output_coefficient * output + noise_coefficient * noise + sum_k history_k * p_k
    x'        = (1 - loss * where) * moved
                + where * (anchor_alpha * anchor + anchor_sigma * anchor_noise + anchor_denoised * denoised)
    denoised  = denoised_x * x + denoised_output * output

with the coefficients of `schedulers.table`, a row of `COLUMNS` per picture. Rows may belong to pictures at different
steps: nothing in the graph is common to two pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.host import bind_loop
from pixrt.backends.protocol import Array, BoundLoop, Engine, LoopLayout
from pixrt.core.buffers import Latents
from pixrt.core.conditioning import Conditioning
from pixrt.core.plan import Schedule, initial_state
from pixrt.maths.guidance import Branch, active_branches
from pixrt.maths.noise import draw_noise

DEPTH = 4  # stored predictions that the graph holds: as many as PNDM looks back on
COLUMNS = (
    *("input_scale", "x", "output", "noise", "store_x", "store_output", "denoised_x", "denoised_output"),
    *("loss", "anchor_alpha", "anchor_sigma", "anchor_denoised"),
    *(f"history_{k}" for k in range(DEPTH)),
)
LAYOUT = LoopLayout(
    carried={"latents": "next_latents", "history": "next_history"},
    rows=frozenset({"context", "row_to_latents", "row_to_source", "timestep"}),
)


@dataclass(frozen=True, slots=True)
class FusedPlan:
    """A batch on a loop: `rows` tells for every step how many rows run, the first ones of all."""

    loop: BoundLoop
    rows: tuple[int, ...]

    def latents(self) -> Latents:
        """The latents after the last step, `[B, C, h, w]`."""
        return self.loop.read("next_latents")

    def denoised(self) -> Latents:
        """The clean latents that the last step predicts, `[B, C, h, w]`."""
        return self.loop.read("denoised")


# One array per index for good: what is held keeps its identity.
_INDICES = tuple(np.array(index, np.int32) for index in range(256))


class FusedWorkspace:
    """The loops for B pictures of h x w latents, one per number of branches, bound at the first request."""

    def __init__(self, engine: Engine, batch: int, size: tuple[int, int], tokens: int) -> None:
        self._engine = engine
        self._table = {tensor.name: tensor for tensor in (*engine.inputs, *engine.outputs)}
        channels = self._table["latents"].fixed(1)
        self._tokens = tokens
        self.shape = (batch, channels, *size)
        self.null: Array | None = None
        if "source" in self._table:
            self.null = np.zeros((self._table["source"].fixed(1), *size), self._table["source"].dtype)
        self._no_latents: Array = np.zeros((channels, *size), np.float32)
        self._nowhere: Array = np.zeros((1, *size), np.float32)
        self._loops: dict[int, BoundLoop] = {}

    def condition(
        self, loop: BoundLoop, branches: Sequence[Branch], conditioning: Conditioning, noise: NDArray[np.float32]
    ) -> None:
        """Write what stays the same over an edit; the null picture is the last of the sources."""
        batch = self.shape[0]
        if self.null is not None:
            for item, source in enumerate(next(iter(conditioning.sources.values()), ())):
                loop.hold("source", item, source)
            loop.hold("source", batch, self.null)
        for number, branch in enumerate(branches):
            for item, context in enumerate(conditioning.contexts[branch]):
                row = number * batch + item
                loop.hold("context", row, context)
                loop.hold("row_to_latents", row, _INDICES[item])
                if self.null is not None:
                    has_source = branch in conditioning.sources
                    loop.hold("row_to_source", row, _INDICES[item if has_source else batch])
        for item in range(batch):
            anchor = conditioning.anchors[item] if conditioning.anchors else None
            loop.hold("where", item, anchor.where if anchor else self._nowhere)
            loop.hold("anchor", item, anchor.latents if anchor else self._no_latents)
            loop.hold("anchor_noise", item, noise[item] if anchor else self._no_latents)

    def loop(self, branches: int) -> BoundLoop:
        """The loop with `branches` rows per picture."""
        if branches not in self._loops:
            self._loops[branches] = bind_loop(self._engine, self._shapes(branches * self.shape[0]), LAYOUT)
        return self._loops[branches]

    def _shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        batch, channels, *size = self.shape
        latents, history = (batch, channels, *size), (batch, DEPTH, channels, *size)
        shapes: dict[str, tuple[int, ...]] = {
            "latents": latents,
            "history": history,
            "noise": latents,
            "context": (rows, self._tokens, self._table["context"].fixed(2)),
            "row_to_latents": (rows,),
            "timestep": (rows,),
            "branch_rows": (batch, len(Branch)),
            "guidance": (batch, len(Branch)),
            "coefficients": (batch, len(COLUMNS)),
            "where": (batch, 1, *size),
            "anchor": latents,
            "anchor_noise": latents,
            "next_latents": latents,
            "next_history": history,
            "denoised": latents,
        }
        if self.null is not None:
            shapes |= {"source": (batch + 1, *self.null.shape), "row_to_source": (rows,)}
        return shapes


def plan_fused(
    workspace: FusedWorkspace, schedule: Schedule, seeds: Sequence[int], conditioning: Conditioning
) -> FusedPlan:
    """The plan of one batch, with the noise of each picture's seed, loaded onto the loop."""
    batch, table = len(seeds), schedule.table
    noise = draw_noise(seeds, schedule.draws, workspace.shape[1:])
    branches, used = order_branches(schedule.weights)
    tables: dict[str, Array] = {
        "timestep": np.repeat(table.timesteps[:, None], len(branches) * batch, 1).astype(np.float32),
        "coefficients": coefficient_rows(schedule),
        **guidance_tables(schedule.weights, branches),
    }
    if schedule.draws:
        tables["noise"] = noise[1:]
    loop = workspace.loop(len(branches))
    workspace.condition(loop, branches, conditioning, noise[0])
    loop.load(tables, {"latents": initial_state(table, noise[0], conditioning)})
    return FusedPlan(loop, tuple(count * batch for count in used))


def coefficient_rows(schedule: Schedule) -> NDArray[np.float32]:
    """A batch's coefficients `[N, B, COLUMNS]`, as the graph takes them."""
    table = schedule.table
    anchoring = dict(zip(("loss", "anchor_alpha", "anchor_sigma", "anchor_denoised"), schedule.anchoring, strict=True))
    columns = {
        **anchoring,
        **{f"history_{k}": table.history[:, k, None] for k in range(table.depth)},
    }
    rows = np.zeros((*schedule.weights.shape[:2], len(COLUMNS)), np.float32)
    for column, name in enumerate(COLUMNS):
        if not name.startswith("history_") or name in columns:
            rows[:, :, column] = columns[name] if name in columns else getattr(table, name)[:, None]
    return rows


def order_branches(weights: NDArray[np.float64]) -> tuple[tuple[Branch, ...], list[int]]:
    """The branches in the order of their rows, and how many of them every step of `weights` `[N, B, 3]` runs.

    A step runs the first few, so those that run at most steps come first. Where one step's branches are not among
    another's (text guidance of zero inside a window), some run with a weight of zero, which changes nothing.
    """
    steps = (weights != 0.0).any(1).sum(0)
    order = tuple(sorted((branch for branch in Branch if steps[branch]), key=lambda branch: -steps[branch]))
    return order, [1 + max(order.index(branch) for branch in active_branches(row)) for row in weights]


def guidance_tables(weights: NDArray[np.float64], branches: Sequence[Branch]) -> Mapping[str, Array]:
    """`guidance` `[N, B, 3]`, and `branch_rows` `[N, B, 3]`: which row is each branch of each picture.

    A branch that does not run has the picture's own first row and a weight of zero, so that no value of another
    picture, finite or not, can enter.
    """
    batch = weights.shape[1]
    rows = np.zeros(weights.shape, np.int32)
    rows[:] = np.arange(batch)[:, None]
    for step, row in enumerate(weights):
        for branch in active_branches(row):
            rows[step, :, branch] = branches.index(branch) * batch + np.arange(batch)
    return {"guidance": weights.astype(np.float32), "branch_rows": rows}
