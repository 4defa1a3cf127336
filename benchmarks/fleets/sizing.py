"""How few replicas keep their word, and the arithmetic that says how few they cannot be fewer than."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fleets.asking import ask, kinds_of
from fleets.figures import SLO, figures
from fleets.replica import Request
from fleets.running import Fleet, run
from loads.traffic import Traffic
from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket
from pixrt.serve.devices import Device

GOAL = 0.99  # of all requests, in time
MOST = 1200  # replicas that are simulated; more are arithmetic
# A run has so many requests and lasts so many times alone, at least, and its first part does not count: the fleet is
# empty there. It is made twice, with other arrivals.
REQUESTS, SPANS, WARM, SEEDS = 6000, 20, 0.2, 2
_NEAR = 0.005  # replicas are counted to one, or to this share of them


@dataclass(frozen=True, slots=True)
class Work:
    """Of one request, in seconds of a device, averaged over the mix.

    Attributes:
        rows: network rows.
        alone: by itself, one at a time.
        least: in calls of the rows that cost least each, always full.
        timely: in calls that it shares with so many of its kind that it is in time, just; `least` for a mix of kinds.
    """

    rows: float
    alone: float
    least: float
    timely: float


def work_of(traffic: Traffic, slo: float = SLO) -> Work:
    """The arithmetic of a traffic's requests."""
    costs, count = traffic.costs(), len(traffic.arrivals)
    row = {
        bucket: min(costs.step(bucket, rows) / rows for rows in range(1, bucket.most_rows + 1))
        for bucket in traffic.buckets
    }
    rows = alone = least = 0.0
    for each in traffic.arrivals:
        rows += sum(each.rows)
        alone += costs.alone(each.bucket, each.rows)
        stages = costs.stage(each.bucket, "encode") + costs.stage(each.bucket, "decode")
        least += stages + sum(each.rows) * row[each.bucket]
    kinds = {(each.bucket, each.rows) for each in traffic.arrivals}
    timely = least / count if len(kinds) > 1 else max(least / count, _timely(costs, *kinds.pop(), slo))
    return Work(rows / count, alone / count, least / count, timely)


def _timely(costs: Costs, bucket: Bucket, rows: tuple[int, ...], slo: float) -> float:
    """Seconds of a picture of which as many share every call as can be in time; parts of a picture count as parts."""
    stages = costs.stage(bucket, "encode") + costs.stage(bucket, "decode")
    least = before = costs.alone(bucket, rows)
    limit = slo * before
    for pictures in range(2, min(bucket.slots, bucket.most_rows // max(rows)) + 1):
        whole = pictures * stages + sum(costs.step(bucket, pictures * each) for each in rows)
        if whole > limit:
            return min(least, limit / (pictures - 1 + (limit - before) / (whole - before)))
        least, before = min(least, whole / pictures), whole
    return least


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas for a rate.

    Attributes:
        bound: rate x least work: fewer cannot make all of it, however patient everybody is.
        gpus: the fewest of which enough requests are in time; None if more than `MOST` would have to be simulated.
        in_time: of the worse run.
        requests: of each run.
    """

    device: str
    mix: str
    rate: float
    router: str
    work: Work
    bound: float
    gpus: int | None = None
    utilisation: float = math.nan
    in_time: float = math.nan
    slowdown_p95: float = math.nan
    requests: int = 0


def need(
    name: str, device: Device, mix: str, rate: float, seed: int, *, router: str = "least-work", slo: float = 3.0
) -> Need:
    """The fewest replicas of which `GOAL` of all requests are in time, Poisson arrivals. Same seed, same answer."""
    kinds = kinds_of(mix)
    work = work_of(ask(device, mix, 1.0, 1000.0 if len(kinds) > 1 else 10.0, seed, slo=slo), slo)
    bound = rate * work.least
    plain = Need(name, mix, rate, router, work, bound)
    if rate * work.timely > MOST:
        return plain
    seconds = max(REQUESTS / rate, SPANS * work.alone)
    traffics = [ask(device, mix, rate, seconds, each, slo=slo) for each in range(SEEDS * seed, SEEDS * (seed + 1))]
    told: dict[int, list[Mapping[str, float]]] = defaultdict(list)

    def is_enough(replicas: int) -> bool:
        for traffic in traffics:
            misses = _Misses(WARM * seconds, (1 - GOAL) * (1 - WARM) * len(traffic.arrivals))
            ran = run(Fleet(replicas, router), traffic, seed, misses)
            if misses.are_too_many:
                return False
            told[replicas].append(figures(ran, WARM * seconds))
            if told[replicas][-1]["in_time"] < GOAL:
                return False
        return True

    # Too few are in time for a while: a run may be too short to see it, and the arithmetic is not.
    gpus = fewest(math.ceil(rate * work.timely), is_enough)
    return replace(
        plain,
        gpus=gpus,
        utilisation=statistics.mean(each["utilisation"] for each in told[gpus]),
        in_time=min(each["in_time"] for each in told[gpus]),
        slowdown_p95=statistics.mean(each["slowdown_p95"] for each in told[gpus]),
        requests=int(told[gpus][0]["requests"]),
    )


@dataclass(slots=True)
class _Misses:
    """Counts requests that are refused, so that a fleet that is too small is not simulated to its end: that is slow."""

    warm_s: float
    most: float
    count: int = 0

    @property
    def are_too_many(self) -> bool:
        return self.count > self.most * 1.05

    def __call__(self, request: Request) -> bool:
        self.count += request.is_refused and request.arrival.at >= self.warm_s
        return self.are_too_many


def fewest(first: int, is_enough: Callable[[int], bool]) -> int:
    """The fewest that are enough, from `first` on: in growing strides, then by halves; to within half a percent."""
    low, high, stride = max(0, first - 1), max(1, first), max(1, first // 25)
    while not is_enough(high):
        low, high, stride = high, high + stride, 2 * stride
    while high - low > max(1, _NEAR * high):
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
