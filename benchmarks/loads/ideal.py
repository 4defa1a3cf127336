"""How much work can be done in time, for one that knows the future: a bound, and what a scheduler of our kind reaches.

The bound is a linear program. Between two events (arrivals and deadlines) a device makes so many calls of each bucket;
every call has at most one step of each picture that is there, and no more rows than an engine takes; calls, rows and
the VAE take their time. Parts of a picture count as parts, and its steps and VAE have no order, so the true best is a
little below. For devices whose steps take a fixed time and a time for each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix

from loads.traffic import Traffic
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.simulation import Arrival, Outcome, Simulation


@dataclass
class _Rows:
    """Rows of a sparse matrix, being written."""

    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)

    def add(self, terms: Sequence[tuple[int, float]], right: float) -> None:
        for column, value in terms:
            self.rows.append(len(self.right))
            self.columns.append(column)
            self.values.append(value)
        self.right.append(right)

    def matrix(self, width: int) -> csr_matrix:
        return coo_matrix((self.values, (self.rows, self.columns)), shape=(len(self.right), width)).tocsr()


def most_work(traffic: Traffic) -> float:
    """Seconds of work (what its pictures take alone) that no schedule exceeds in time."""
    arrivals, costs = list(traffic.arrivals), traffic.costs()
    deadlines = [arrival.deadline or 0.0 for arrival in arrivals]
    times = sorted({*(arrival.at for arrival in arrivals), *deadlines})
    place = {time: number for number, time in enumerate(times)}
    buckets = sorted(traffic.buckets, key=lambda bucket: bucket.area)
    count, spans = len(arrivals), len(times) - 1
    calls = {
        (span, bucket): count + span * len(buckets) + number
        for span in range(spans)
        for number, bucket in enumerate(buckets)
    }
    width = count + len(calls)
    there: list[list[tuple[int, int, int]]] = [[] for _ in range(spans)]  # pictures, with columns of steps and VAE
    own: list[list[tuple[int, int]]] = [[] for _ in arrivals]
    for number, arrival in enumerate(arrivals):
        for span in range(place[arrival.at], place[deadlines[number]]):
            there[span].append((number, width, width + 1))
            own[number].append((width, width + 1))
            width += 2
    most, equal = _Rows(), _Rows()
    for span in range(spans):
        time: list[tuple[int, float]] = []
        for bucket in buckets:
            inside = [each for each in there[span] if arrivals[each[0]].bucket == bucket]
            if not inside:
                continue
            fixed, row = _line(traffic, bucket)
            made = calls[span, bucket]
            time.append((made, fixed))
            time += [(steps, row * arrivals[number].rows[0]) for number, steps, _ in inside]
            most.add(
                [(made, -bucket.most_rows), *((steps, arrivals[number].rows[0]) for number, steps, _ in inside)], 0.0
            )
            for _, steps, _ in inside if fixed else ():
                most.add([(steps, 1.0), (made, -1.0)], 0.0)
        time += [(vae, 1.0) for _, _, vae in there[span]]
        most.add(time, times[span + 1] - times[span])
    for number, arrival in enumerate(arrivals):
        stages = costs.stage(arrival.bucket, "encode") + costs.stage(arrival.bucket, "decode")
        equal.add([(number, -len(arrival.rows)), *((steps, 1.0) for steps, _ in own[number])], 0.0)
        equal.add([(number, -stages), *((vae, 1.0) for _, vae in own[number])], 0.0)
    worth = np.zeros(width)
    worth[:count] = [-costs.alone(arrival.bucket, arrival.rows) for arrival in arrivals]
    high = np.full(width, np.inf)
    high[:count] = 1.0
    found = linprog(
        worth,
        A_ub=most.matrix(width),
        b_ub=most.right,
        A_eq=equal.matrix(width),
        b_eq=equal.right,
        bounds=np.stack([np.zeros(width), high], axis=1),
        method="highs",
    )
    return -float(found.fun)


def _line(traffic: Traffic, bucket: Bucket) -> tuple[float, float]:
    """Seconds of a call, and of each of its rows."""
    device = traffic.device
    row = (device.steps_ms[24] - device.fixed_ms) / 24
    return device.fixed_ms / 1000, bucket.area * row / 1000


class _Refused(Exception):
    """Somebody is not accepted."""


class _Accepting(Simulation):
    """Ends as soon as somebody is not accepted."""

    def arrive(self, arrival: Arrival) -> Outcome:
        outcome = super().arrive(arrival)
        if outcome.refusal is not None:
            raise _Refused
        return outcome


def with_hindsight(traffic: Traffic) -> float:
    """Seconds of work that the same scheduler does in time if it may choose who comes, from all who ever will.

    Earliest deadline first, haste and all; the largest pictures are chosen first, then whatever fits beside them.
    """
    costs, chosen, work = traffic.costs(), list[Arrival](), 0.0
    alone = {arrival: costs.alone(arrival.bucket, arrival.rows) for arrival in traffic.arrivals}
    for arrival in sorted(traffic.arrivals, key=lambda each: -alone[each]):
        tried = sorted([*chosen, arrival], key=lambda each: each.at)
        try:
            _Accepting(traffic.costs(), margin=0.0).run(tried)
        except _Refused:
            continue
        chosen, work = tried, work + alone[arrival]
    return work
