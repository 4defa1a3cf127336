"""What a run of a fleet comes to, in numbers."""

import itertools
from collections.abc import Mapping, Sequence

from fleets.running import Ran
from pixrt.serve.simulate import percentile

SLO = 3.0  # times of what a picture takes alone: the public benchmark's


def figures(ran: Ran, warm_s: float = 0.0) -> Mapping[str, float]:
    """Of the requests that came after `warm_s`; shares are of all of them, also of those refused. Times are seconds.

    `in_time` are those made within `SLO` times alone, or by their own deadline; `utilisation` is of paid seconds.
    """
    asked = [each for each in ran.requests if each.arrival.at >= warm_s]
    made = [each for each in asked if each.is_made]
    latencies, slowdowns = [each.latency for each in made], [each.slowdown for each in made]
    span = max(ran.end, 1e-9)
    paid = sum(min(each.ended, span) - min(each.began, span) for each in ran.replicas)
    count = max(1, len(asked))
    in_time = 0
    for each in made:
        deadline = each.arrival.deadline
        limit = SLO * each.alone if deadline is None else deadline - each.arrival.at
        in_time += each.latency <= limit * (1 + 1e-9)
    return {
        "requests": len(ran.requests),
        "made": sum(each.is_made for each in ran.requests),
        "refused": sum(each.is_refused for each in ran.requests),
        "lost": ran.lost,
        "retried": ran.retried,
        "bounced": ran.bounced,
        "deaths": ran.deaths,
        "per_second": sum(each.is_made for each in ran.requests) / span,
        "p50": percentile(latencies, 0.5),
        "p95": percentile(latencies, 0.95),
        "p99": percentile(latencies, 0.99),
        "slowdown_p95": percentile(slowdowns, 0.95),
        "slowdown_p99": percentile(slowdowns, 0.99),
        "in_time": in_time / count,
        "utilisation": sum(each.busy for each in ran.replicas) / max(paid, 1e-9),
        "gpu_seconds": paid,
        "most_gpus": _most_at_once([(each.began, min(each.ended, span)) for each in ran.replicas]),
    }


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Of things that begin and end: how many there were at most. What ends when another begins is gone then."""
    changes = sorted([(end, -1) for _, end in spans] + [(begin, 1) for begin, _ in spans])
    return max(itertools.accumulate(change for _, change in changes), default=0)
