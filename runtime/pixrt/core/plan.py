"""A plan: what a batch's loop does, decided in full before it runs. Every step is arrays and the coefficients to apply.

Must not import a backend.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.core.buffers import Anchors, Latents, LoopRows, Workspace
from pixrt.core.conditioning import Conditioning
from pixrt.maths.guidance import active_branches, guidance_weights, in_window
from pixrt.maths.noise import draw_noise
from pixrt.maths.solvers import build_table
from pixrt.maths.solvers.table import StepTable
from pixrt.maths.terms import Coefficient, Factor, Terms, add_terms, coefficient, combine, make_terms
from pixrt.options.tasks import Options


@dataclass(frozen=True, slots=True)
class Schedule:
    """All about a batch's steps that its pictures do not change.

    Attributes:
        table: the solver's, N calls.
        weights: guidance `[N, B, 3]`.
        steer: how far the clean latents that each step predicts are moved to the anchor, `[N, B]`; None where anchors
            hold the state.
    """

    table: StepTable
    weights: NDArray[np.float64]
    steer: NDArray[np.float64] | None = None

    @property
    def anchoring(self) -> tuple[NDArray[np.float64], ...]:
        """Coefficients of anchors after each step, `[N, B]` each: of the state, the anchor, its noise, and x0.

        Held: x' <- x' - where (x' - alpha' anchor - sigma' noise). Steered by w: x' <- x' + where w alpha' (anchor -
        x0), where x0 is what the step predicts: noise that the solver has added since stays what it is, so the level
        stays the solver's, which it would not if the noise of the beginning were mixed with it.
        """
        alpha, sigma = np.array([self.table.level_after(step) for step in range(len(self.table))]).T[:, :, None]
        if self.steer is None:
            held = np.ones(self.weights.shape[:2])
            return held, held * alpha, held * sigma, np.zeros_like(held)
        none = np.zeros_like(self.steer)
        return none, self.steer * alpha, none, -self.steer * alpha

    @property
    def calls(self) -> int:
        """Network calls, N."""
        return len(self.table)

    @property
    def draws(self) -> int:
        """Draws of noise beside the initial one: one per call where the solver adds noise, else none."""
        return self.calls if self.table.noise.any() else 0


def make_schedule(options: Sequence[Options], scheduler: Mapping[str, Any]) -> Schedule:
    """The schedule of pictures with these resolved options, for a checkpoint's scheduler config.

    They share the solver and its steps, which are the first one's. Raises OptionError.
    """
    first = options[0]
    assert first.scheduler is not None
    assert first.steps is not None
    table = build_table(first.scheduler, scheduler, first.steps, eta=first.eta, start=first.start)
    weights = [guidance_weights(len(table), *each.scales, each.guidance_interval) for each in options]
    steering = [each.steering for each in options if each.steering is not None]
    steers = [weight * in_window(len(table), window) for weight, window in steering]
    return Schedule(table, np.stack(weights, 1), np.stack(steers, 1) if steers else None)


@dataclass(frozen=True, slots=True)
class Anchoring:
    """`x - where * (loss of x, or predicted) + terms`: the state x held to its anchors, or steered; see `Schedule`.

    `loss` is the coefficient of x, None where it is 0. `terms` are the anchors' own.
    """

    where: Latents
    loss: Coefficient | None
    predicted: Terms
    terms: Terms
    product: Latents

    def apply(self, state: Latents, scratch: Latents) -> None:
        """Move the state `[B, C, h, w]` in place. Where it is held, nothing of it is left, to the bit."""
        product = self.product
        if self.loss is not None:
            np.multiply(state, self.where, out=product)
            np.multiply(product, self.loss, out=product)
            np.subtract(state, product, out=state)
        if self.predicted:
            combine(self.predicted, product, scratch)
            np.multiply(product, self.where, out=product)
            np.add(state, product, out=state)
        add_terms(self.terms, state, scratch)


@dataclass(frozen=True, slots=True)
class Step:
    """One network call and the update after it.

    The loop writes `input_scale * state` into the rows, runs them, forms `stored` from `store` (solvers with memory),
    then `next_state` from `update`, and moves that to its anchors. `noise` is already multiplied by its coefficient.
    `prediction` is of the clean latents, from `state` and the network's output; it holds until the next step runs.
    """

    rows: LoopRows
    input_scale: Coefficient
    timestep: Coefficient
    state: Latents
    next_state: Latents
    update: Terms
    noise: Latents | None
    anchoring: Anchoring | None
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

    def latents(self) -> Latents:
        """A copy of the state after the last step, `[B, C, h, w]`."""
        return self.steps[-1].latents()


def plan_batch(workspace: Workspace, schedule: Schedule, seeds: Sequence[int], conditioning: Conditioning) -> Plan:
    """The plan of one batch on its workspace, with the noise of each picture's seed."""
    noise = draw_noise(seeds, schedule.draws, workspace.shape[1:], out=workspace.noise(schedule.draws))
    return make_plan(workspace, schedule, noise, conditioning)


def make_plan(workspace: Workspace, schedule: Schedule, noise: NDArray[np.float32], conditioning: Conditioning) -> Plan:
    """Lay a schedule onto a workspace, and write the initial state and what stays the same over the loop.

    `noise` is `[1 + N, B, C, h, w]` (only its first row is used by a solver without noise); what the solver adds is
    scaled in place.
    """
    table, weights = schedule.table, schedule.weights
    history = workspace.history(table.depth + 1 if table.depth else 0)
    workspace.states[0][:] = initial_state(table, noise[0], conditioning)
    if conditioning.anchors:
        workspace.anchors.set(conditioning.anchors, noise[0])
    steps = []
    for i in range(len(table)):
        rows = workspace.rows(active_branches(weights[i]))
        state, next_state = workspace.states[i % 2], workspace.states[(i + 1) % 2]

        def linear(x: Factor, output: Factor, *, step: int = i, rows: LoopRows = rows, state: Latents = state) -> Terms:
            guided = [(output * weights[step, :, branch], rows.output[r]) for r, branch in enumerate(rows.branches)]
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
                anchoring=_anchoring(workspace.anchors, schedule, i, linear) if conditioning.anchors else None,
                stored=history[i % len(history)] if history else None,
                store=linear(table.store_x[i], table.store_output[i]) if history else (),
                prediction=linear(table.denoised_x[i], table.denoised_output[i]),
            )
        )
    for rows in {id(step.rows): step.rows for step in steps}.values():
        rows.condition(conditioning)
    return Plan(tuple(steps), workspace.scratch)


def initial_state(table: StepTable, noise: NDArray[np.float32], conditioning: Conditioning) -> Latents:
    """What the loop begins with, `[B, C, h, w]`, out of the initial noise: that alone, or added to clean latents."""
    if not conditioning.initial:
        return noise * np.float32(table.initial_scale)
    clean: Latents = np.stack(conditioning.initial)
    return clean * np.float32(table.alpha[0]) + noise * np.float32(table.sigma[0])


def _anchoring(anchors: Anchors, schedule: Schedule, step: int, linear: Callable[..., Terms]) -> Anchoring | None:
    """What happens to the state after a step; None where nothing does. `linear` is of the state and the output."""
    loss, latents, noise, predicted = (column[step] for column in schedule.anchoring)
    if not (loss.any() or latents.any()):
        return None
    table = schedule.table
    return Anchoring(
        where=anchors.where,
        loss=coefficient(loss) if loss.any() else None,
        predicted=linear(predicted * table.denoised_x[step], predicted * table.denoised_output[step]),
        terms=make_terms((latents, anchors.latents), (noise, anchors.noise)),
        product=anchors.product,
    )
