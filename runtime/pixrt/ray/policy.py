"""How many replicas there should be: by the work that is queued, in milliseconds of a device. Must not import Ray."""

import math
from typing import Any

WORK = "work_ms"


class QueuedWork:
    """Ray Serve's autoscaling policy: so many replicas that each has about `scale_ms` of work ahead of it."""

    def __init__(self, scale_ms: float) -> None:
        self._scale_ms = scale_ms

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """See Ray's `AutoscalingContext`: what the replicas said of themselves, summed."""
        said = (context.aggregated_metrics or {}).get(WORK, {})
        return wanted(sum(said.values()), self._scale_ms), {}


def wanted(work_ms: float, scale_ms: float) -> int:
    """Replicas for so much work; one at least."""
    return max(1, math.ceil(work_ms / scale_ms))
