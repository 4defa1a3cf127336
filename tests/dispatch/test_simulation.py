"""Virtual time: what the simulation tells is what the rules of queues say, and what step by step comes of the same."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.dispatch.admission import MARGIN
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.lane import Action
from pixrt.dispatch.simulation import Arrival, Simulated, Simulation
from pixrt.dispatch.turns import Rules
from queues import BUCKET, CURVES, costs_of, rows_of, seconds_of

SEEDS = st.integers(0, 10**6)


def some_arrivals(
    seed: int, count: int, rate: float, *, buckets: tuple[Bucket, ...] = (BUCKET,), patience: float = 0.0
) -> list[Arrival]:
    """Pictures of any kind; with a patience, of use for about so many times what they take alone."""
    drawn, costs, at = random.Random(seed), costs_of("a100", *buckets), 0.0
    arrivals = []
    for _ in range(count):
        at += drawn.expovariate(rate)
        bucket, rows = drawn.choice(buckets), rows_of(drawn.randrange(1 << 30), drawn.randrange(1, 25))
        deadline = at + costs.alone(bucket, rows) * drawn.uniform(1.1, patience) if patience else None
        arrivals.append(Arrival(at, bucket, rows, deadline))
    return arrivals


def simulate(
    arrivals: list[Arrival],
    curve: str = "a100",
    *,
    takes: Callable[[Action], float] | None = None,
    seats: int = 1000,
    margin: float = 0.0,
) -> Simulated:
    buckets = tuple({arrival.bucket: None for arrival in arrivals})
    return Simulation(costs_of(curve, *buckets), Rules(), seats=seats, margin=MARGIN, takes=takes).run(arrivals)


def test_one_picture_takes_what_it_takes_alone() -> None:
    result = simulate([Arrival(2.0, BUCKET, (3,) * 20)])
    (outcome,) = result.outcomes
    alone = costs_of("a100").alone(BUCKET, (3,) * 20)
    assert (outcome.start, outcome.end) == (2.0, pytest.approx(2.0 + alone))
    assert (outcome.latency, outcome.slowdown) == (pytest.approx(alone), pytest.approx(1))
    assert outcome.in_time
    assert (result.busy, result.calls, result.rows, result.end) == (pytest.approx(alone), 20, 60, outcome.end)


@given(SEEDS)
def test_one_at_a_time_is_a_queue(seed: int) -> None:
    """Where rows cost in proportion and all are equal, none passes another: Lindley's recursion."""
    arrivals = [Arrival(each.at, BUCKET, (3,) * 10) for each in some_arrivals(seed, 30, rate=2.5)]
    result = simulate(arrivals, "proportional")
    alone, free = costs_of("proportional").alone(BUCKET, (3,) * 10), 0.0
    for arrival, outcome in zip(arrivals, result.outcomes, strict=True):
        free = max(free, arrival.at) + alone
        assert outcome.end == pytest.approx(free)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(sorted(CURVES)), st.sampled_from([0.0, 3.0, 8.0]))
def test_equal_steps_at_once_are_those_steps_one_by_one(seed: int, curve: str, patience: float) -> None:
    arrivals, costs = some_arrivals(seed, 40, rate=3.0, patience=patience), costs_of(curve)
    at_once = simulate(arrivals, curve)
    one_by_one = simulate(arrivals, curve, takes=lambda action: seconds_of(action, costs))
    for first, second in zip(at_once.outcomes, one_by_one.outcomes, strict=True):
        assert (first.refusal is None) == (second.refusal is None)
        assert (first.start, first.end) == pytest.approx((second.start, second.end), nan_ok=True)
    assert (at_once.calls, at_once.rows) == (one_by_one.calls, one_by_one.rows)
    assert at_once.busy == pytest.approx(one_by_one.busy)


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(sorted(CURVES)))
def test_work_is_neither_lost_nor_made(seed: int, curve: str) -> None:
    arrivals = some_arrivals(seed, 40, rate=3.0, buckets=(BUCKET, Bucket("large", 4, 24, area=2.0)))
    result = simulate(arrivals, curve)
    assert result.rows == sum(sum(arrival.rows) for arrival in arrivals)
    assert result.busy <= sum(outcome.alone for outcome in result.outcomes) * (1 + 1e-9)
    assert all(outcome.slowdown >= 1 - 1e-9 and outcome.in_time for outcome in result.outcomes)
    assert all(outcome.arrival is arrival for outcome, arrival in zip(result.outcomes, arrivals, strict=True))


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(sorted(CURVES)))
def test_all_that_are_accepted_are_in_time(seed: int, curve: str) -> None:
    result = simulate(some_arrivals(seed, 60, rate=5.0, patience=4.0), curve)
    accepted = [outcome for outcome in result.outcomes if outcome.refusal is None]
    assert all(outcome.end <= outcome.arrival.deadline + 1e-6 for outcome in accepted if outcome.arrival.deadline)
    assert any(outcome.refusal for outcome in result.outcomes)


def test_seats_bound_what_is_taken_on() -> None:
    arrivals = [Arrival(0.001 * number, BUCKET, (3,) * 20) for number in range(10)]
    result = simulate(arrivals, seats=4)
    assert [outcome.refusal is None for outcome in result.outcomes] == [True] * 4 + [False] * 6
    assert {outcome.refusal.reason for outcome in result.outcomes[4:] if outcome.refusal} == {"full"}
    assert not any(outcome.in_time for outcome in result.outcomes[4:])


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_on_a_device_that_varies_the_accepted_are_in_time_all_the_same(curve: str) -> None:
    """Calls that differ by 10 % from each other, on a device a fifth slower than it was measured."""
    drawn, costs = random.Random(3), costs_of(curve)
    mean = sum(costs.alone(BUCKET, (3,) * steps) for steps in (4, 20, 50)) / 3
    arrivals, at = [], 0.0
    for _ in range(600):
        at += drawn.expovariate(1 / mean)
        rows = (3,) * drawn.choice((4, 20, 50))
        arrivals.append(Arrival(at, BUCKET, rows, at + 3 * 1.2 * costs.alone(BUCKET, rows)))
    result = simulate(
        arrivals,
        curve,
        margin=MARGIN,
        takes=lambda action: 1.2 * seconds_of(action, costs) * drawn.lognormvariate(0, 0.1),
    )
    accepted = [outcome for outcome in result.outcomes if outcome.refusal is None]
    assert len(accepted) > 300
    assert sum(outcome.in_time for outcome in accepted) >= 0.99 * len(accepted)


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(sorted(CURVES)), st.sampled_from([0.0, 3.0]))
def test_whoever_looks_at_it_changes_nothing(seed: int, curve: str, patience: float) -> None:
    """Driven picture by picture, with looks in between: the same as in one go; and it knows when all will be done."""
    arrivals, drawn = some_arrivals(seed, 20, rate=3.0, patience=patience), random.Random(seed)
    looked = Simulation(costs_of(curve), seats=1000)
    for arrival in arrivals:
        for look in sorted(drawn.uniform(looked.now, arrival.at) for _ in range(2)):
            looked.go(max(look, looked.now))
        looked.go(arrival.at)
        outcome = looked.arrive(arrival)
        under_way = [each for each in looked.simulated.outcomes if each.refusal is None and each.end != each.end]
        assert (outcome in under_way) == (outcome.refusal is None)
        assert looked.done_by >= looked.now
    expected = looked.done_by
    looked.go()
    assert looked.now == pytest.approx(expected)
    for one, other in zip(looked.simulated.outcomes, simulate(arrivals, curve).outcomes, strict=True):
        assert (one.refusal is None) == (other.refusal is None)
        assert (one.start, one.end) == pytest.approx((other.start, other.end), nan_ok=True)
