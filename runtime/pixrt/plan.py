"""A plan: an edit decided in full before its loop runs. Every step is arrays and the coefficients to apply to them.

Must not import a backend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.buffers import Latents, Rows, Workspace
from pixrt.conditioning import Conditioning
from pixrt.guidance import active_branches, guidance_weights
from pixrt.noise import draw_noise
from pixrt.options import EditOptions
from pixrt.schedulers import build_table
from pixrt.schedulers.table import StepTable
from pixrt.terms import Coefficient, Terms, coefficient, combine, make_terms


@dataclass(frozen=True, slots=True)
class Schedule:
    """All about an edit's steps that its pictures do not change: the solver's table, guidance weights `[N, 3]`."""

    table: StepTable
    weights: NDArray[np.float64]

    @property
    def calls(self) -> int:
        """Network calls, N."""
        return len(self.table)

    @property
    def draws(self) -> int:
        """Draws of noise beside the initial one: one per call where the solver adds noise, else none."""
        return self.calls if self.table.noise.any() else 0


def make_schedule(options: EditOptions, scheduler: Mapping[str, Any]) -> Schedule:
    """The schedule of resolved options, for a checkpoint's scheduler config. Raises OptionError."""
    assert options.scheduler is not None
    assert options.steps is not None
    assert options.guidance_scale is not None
    assert options.image_guidance_scale is not None
    table = build_table(options.scheduler, scheduler, options.steps, eta=options.eta)
    scales = options.guidance_scale, options.image_guidance_scale
    return Schedule(table, guidance_weights(len(table), *scales, options.guidance_interval))


@dataclass(frozen=True, slots=True)
class Step:
    """One network call and the update after it.

    The loop writes `input_scale * state` into the rows, runs them, forms `stored` from `store` (solvers with memory),
    then `next_state` from `update`. `noise` is already multiplied by its coefficient. `prediction` is of the clean
    latents, from `state` and the network's output; it holds until the next step runs.
    """

    rows: Rows
    input_scale: Coefficient
    timestep: Coefficient
    state: Latents
    next_state: Latents
    update: Terms
    noise: Latents | None
    stored: Latents | None
    store: Terms
    prediction: Terms

    def latents(self) -> Latents:
        """A copy of the state after this step, `[B, C, h, w]`."""
        return self.next_state.copy()

    def denoised(self) -> Latents:
        """The clean latents `[B, C, h, w]` that this step predicts."""
        predicted = np.zeros_like(self.state)
        combine(self.prediction, predicted, np.zeros_like(predicted))
        return predicted


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one batch, in order, and the array that every combination uses for its products."""

    steps: tuple[Step, ...]
    scratch: Latents

    @property
    def rows(self) -> tuple[Rows, ...]:
        """The distinct sets of rows, to be conditioned before the loop."""
        return tuple({id(step.rows): step.rows for step in self.steps}.values())

    def condition(self, conditioning: Conditioning) -> None:
        """Write what stays the same over the loop into every set of rows."""
        for rows in self.rows:
            rows.condition(conditioning)

    def latents(self) -> Latents:
        """A copy of the state after the last step, `[B, C, h, w]`."""
        return self.steps[-1].latents()


def plan_batch(workspace: Workspace, schedule: Schedule, seeds: Sequence[int]) -> Plan:
    """The plan of one batch on its workspace, with the noise of each picture's seed."""
    noise = draw_noise(seeds, schedule.draws, workspace.shape[1:], out=workspace.noise(schedule.draws))
    return make_plan(workspace, schedule.table, schedule.weights, noise)


def make_plan(workspace: Workspace, table: StepTable, weights: NDArray[np.float64], noise: NDArray[np.float32]) -> Plan:
    """Lay a table and guidance weights `[N, 3]` onto a workspace, and write the initial state.

    `noise` is `[1 + N, B, C, h, w]` (only its first row is used by a solver without noise) and is scaled in place.
    """
    history = workspace.history(table.depth + 1 if table.depth else 0)
    initial = workspace.states[0]
    np.multiply(noise[0], np.float32(table.initial_scale), out=initial)
    steps = []
    for i in range(len(table)):
        branches = active_branches(weights[i])
        rows = workspace.rows(branches)
        state, next_state = workspace.states[i % 2], workspace.states[(i + 1) % 2]

        def linear(x: float, output: float, *, step: int = i, rows: Rows = rows, state: Latents = state) -> Terms:
            guided = [(output * weights[step, branch], rows.output[r]) for r, branch in enumerate(rows.branches)]
            return make_terms((x, state), *guided)

        fresh = None
        if table.noise[i] != 0.0:
            fresh = noise[1 + i]
            np.multiply(fresh, np.float32(table.noise[i]), out=fresh)
        # With one slot more than the depth, storing never overwrites a prediction that this step still reads.
        past = [(table.history[i, k], history[(i - 1 - k) % len(history)]) for k in range(min(i, table.depth))]
        steps.append(
            Step(
                rows=rows,
                input_scale=coefficient(table.input_scale[i]),
                timestep=coefficient(table.timesteps[i]),
                state=state,
                next_state=next_state,
                update=linear(table.x[i], table.output[i]) + make_terms(*past),
                noise=fresh,
                stored=history[i % len(history)] if history else None,
                store=linear(table.store_x[i], table.store_output[i]) if history else (),
                prediction=linear(table.denoised_x[i], table.denoised_output[i]),
            )
        )
    return Plan(tuple(steps), workspace.scratch)
