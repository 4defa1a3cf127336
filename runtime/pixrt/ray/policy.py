"""How many replicas there should be, and which one gets a picture: by work, in milliseconds. Must not import Ray."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WORK = "work_ms"
_PICTURE_MS = 1000.0  # of a picture, before a replica has made any


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


def predicted_ms(said: Mapping[str, Any], sent: Sequence[float], loras: frozenset[str]) -> float:
    """Milliseconds until a new picture would be done by a replica that said this of itself.

    Args:
        said: see `Replica.record_routing_stats`.
        sent: when pictures were sent there lately, in Unix seconds.
        loras: what the picture wants; a set that is not open has to be opened first.
    """
    if not said.get("is_ready", True):
        return math.inf  # its worker is being started again
    picture_ms = said.get("picture_ms") or _PICTURE_MS
    later = sum(at > said.get("at", 0.0) for at in sent)
    opening = bool(loras) and sorted(loras) not in said.get("loras", ())
    return float(said.get("work_ms", 0.0) + picture_ms * later + opening * said.get("load_ms", 0.0))
