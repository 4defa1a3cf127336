"""What is done with arrivals: by the server's dispatcher, and in three ways that are common elsewhere."""

from collections.abc import Callable, Mapping, Sequence

from loads.traffic import Traffic
from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.simulation import Outcome, Simulated, Simulation, Takes


def ours(traffic: Traffic, takes: Takes | None = None, margin: float | None = None) -> Simulated:
    """The dispatcher and the admission of the server, with a queue that is never full."""
    given = {} if margin is None else {"margin": margin}
    return Simulation(traffic.costs(), takes=takes, **given).run(traffic.arrivals)


class _Everyone(Costs):
    """Costs of which the dispatcher makes calls of as many rows as an engine takes."""

    def caps(self, bucket: Bucket) -> tuple[int, int]:
        return bucket.most_rows, bucket.most_rows


def join_all(traffic: Traffic) -> Simulated:
    """First come, first served; whoever is there joins the next step, while there is room."""
    costs = _Everyone()
    for bucket in traffic.buckets:
        known = traffic.device.costs([bucket])
        steps = {rows: known.step(bucket, rows) for rows in range(1, bucket.most_rows + 1)}
        costs.measured(
            bucket, steps, {"encode": known.stage(bucket, "encode"), "decode": known.stage(bucket, "decode")}
        )
    return Simulation(costs, due=lambda arrival, _alone, _deadline: arrival).run(traffic.arrivals)


def one_at_a_time(traffic: Traffic) -> Simulated:
    """A queue: first come, first served."""
    costs, now, outcomes = traffic.costs(), 0.0, []
    for arrival in traffic.arrivals:
        alone = costs.alone(arrival.bucket, arrival.rows)
        start = max(now, arrival.at)
        now = start + alone
        outcomes.append(Outcome(arrival, alone, start=start, end=now))
    return _simulated(outcomes, sum(outcome.alone for outcome in outcomes))


def static_batches(traffic: Traffic) -> Simulated:
    """Whoever came first, with all of equal size, rows and steps that wait with it, from the first step to the last."""
    costs, arrivals = traffic.costs(), list(traffic.arrivals)
    now, busy, waiting, outcomes = 0.0, 0.0, [], dict[int, Outcome]()
    at = 0
    while at < len(arrivals) or waiting:
        if not waiting:
            now = max(now, arrivals[at].at)
        while at < len(arrivals) and arrivals[at].at <= now:
            waiting.append(at)
            at += 1
        first = arrivals[waiting[0]]
        room = max(1, min(first.bucket.slots, first.bucket.most_rows // max(first.rows)))
        equal = [
            number
            for number in waiting
            if (arrivals[number].bucket, arrivals[number].rows) == (first.bucket, first.rows)
        ][:room]
        stages = costs.stage(first.bucket, "encode") + costs.stage(first.bucket, "decode")
        steps = sum(costs.step(first.bucket, len(equal) * rows) for rows in first.rows)
        seconds = len(equal) * stages + steps
        for number in equal:
            alone = costs.alone(first.bucket, first.rows)
            outcomes[number] = Outcome(arrivals[number], alone, start=now, end=now + seconds)
        now, busy = now + seconds, busy + seconds
        waiting = [number for number in waiting if number not in outcomes]
    return _simulated([outcomes[number] for number in range(len(arrivals))], busy)


def _simulated(outcomes: Sequence[Outcome], busy: float) -> Simulated:
    return Simulated(tuple(outcomes), max(outcome.end for outcome in outcomes), busy, 0, 0)


POLICIES: Mapping[str, Callable[[Traffic], Simulated]] = {
    "one at a time": one_at_a_time,
    "static batches": static_batches,
    "join all": join_all,
    "pixrt": ours,
}
