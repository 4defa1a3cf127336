"""How many replicas there should be: as many as work off what is predicted in a stated time. Must not import numpy."""

import math
from typing import Any

from ray.serve.config import AutoscalingContext

WORK = "work_ms"


class ByWork:
    """A policy of Ray Serve's autoscaler, which bounds and delays what it says.

    A replica stays while there is more than half of its share of work: two of them that are half idle are one too many.
    """

    def __init__(self, share_ms: float) -> None:
        """`share_ms`: milliseconds of predicted work for each replica."""
        self._share = share_ms

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """How many, and nothing to remember."""
        work = sum((context.aggregated_metrics or {}).get(WORK, {}).values())
        now = context.target_num_replicas
        wanted = wanted_replicas(work, self._share, now)
        return min(max(wanted, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas), {}


def wanted_replicas(work_ms: float, share_ms: float, now: int) -> int:
    """More as soon as the work is more than their shares; fewer once it is less than half of what the fewer take."""
    needed = max(1, math.ceil(work_ms / share_ms))
    if needed >= now:
        return needed
    return max(needed, min(now, math.ceil(2 * work_ms / share_ms)))
