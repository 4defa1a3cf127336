"""The loop. It applies a plan and decides nothing: no allocation, no branching on options, no names.

Must not import a backend.
"""

from collections.abc import Iterator

import numpy as np

from pixrt.buffers import Latents
from pixrt.plan import Plan, Step, Terms


def denoise(plan: Plan) -> Iterator[Step]:
    """Run the plan; yields each step after its update, when `step.next_state` holds the new latents."""
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
        yield step


def combine(terms: Terms, out: Latents, scratch: Latents) -> None:
    """Write the sum of coefficient times array over `terms` (one at least) into `out`, all `[B, C, h, w]`."""
    coefficient, array = terms[0]
    np.multiply(array, coefficient, out=out)
    for coefficient, array in terms[1:]:
        np.multiply(array, coefficient, out=scratch)
        np.add(out, scratch, out=out)
