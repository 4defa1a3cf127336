"""The loop. It applies a plan and decides nothing: no allocation, no branching on options, no names.

Must not import a backend.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from pixrt.core.buffers import Latents
from pixrt.core.fused import FusedPlan
from pixrt.core.plan import Plan
from pixrt.maths.terms import combine


class LoopState(Protocol):
    """What can be asked for between two steps; both are copies, and wait for a device where the step ran on one."""

    def latents(self) -> Latents:
        """The latents after the step, `[B, C, h, w]`, in the solver's own scale."""

    def denoised(self) -> Latents:
        """The clean latents that the step predicts, `[B, C, h, w]`."""


def denoise(plan: Plan | FusedPlan) -> Iterator[LoopState]:
    """Run the plan; yields after each step, when its latents can be read."""
    return _run_fused(plan) if isinstance(plan, FusedPlan) else _run(plan)


def _run(plan: Plan) -> Iterator[LoopState]:
    scratch = plan.scratch
    for step in plan.steps:
        rows = step.rows
        np.multiply(step.state, step.input_scale, out=rows.noisy)  # [B, C, h, w] -> [R, B, C, h, w]
        np.copyto(rows.timestep, step.timestep)
        rows.run()
        if step.stored is not None:
            combine(step.store, step.stored, scratch)
        combine(step.update, step.next_state, scratch)
        if step.noise is not None:
            np.add(step.next_state, step.noise, out=step.next_state)
        if step.anchoring is not None:
            step.anchoring.apply(step.next_state, scratch)
        yield step


def _run_fused(plan: FusedPlan) -> Iterator[LoopState]:
    for index, rows in enumerate(plan.rows):
        plan.loop.step(index, rows)
        yield plan
