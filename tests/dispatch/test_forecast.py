"""A forecast is what then happens, if nothing else comes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.dispatch.demand import Bucket, Demand
from pixrt.dispatch.dispatcher import Dispatcher, Rules
from queues import BUCKET, CURVES, Device, costs_of, demand, drive, ends_of, named, seconds_of, some_demands, starts_of

SMALL, LARGE = Bucket("small", 6, 24, area=0.5), Bucket("large", 6, 24, area=3.0)
SEEDS = st.integers(0, 10**6)


def under_way(
    seed: int, curve: str, buckets: tuple[Bucket, ...], rules: Rules | None = None
) -> tuple[Dispatcher, float]:
    """A dispatcher with pictures in any state, and perhaps an action that runs; the time."""
    drawn = random.Random(seed)
    dispatcher = Dispatcher(costs_of(curve, *buckets), rules)
    dispatcher.haste = drawn.choice((0, 0, 1, 2, 4))
    for each in some_demands(seed, drawn.randrange(1, 14), buckets):
        dispatcher.add(each)
    done = drive(dispatcher, until=drawn.choice((0.0, drawn.uniform(0, 2))))
    for each in some_demands(seed + 1, drawn.randrange(1, 6), buckets, first=100):
        dispatcher.add(each)
    return dispatcher, done[-1].end if done else 0.0


@settings(max_examples=200)
@given(SEEDS, st.sampled_from(sorted(CURVES)), st.sampled_from([Rules(), Rules(buckets=1, phased=True)]))
def test_one_bucket_exactly(seed: int, curve: str, rules: Rules) -> None:
    dispatcher, now = under_way(seed, curve, (BUCKET,), rules)
    told = dispatcher.forecast(now)
    done = drive(dispatcher, now)
    assert {id: span.end for id, span in told.items()} == pytest.approx(ends_of(done))
    starts = starts_of(done)
    assert {id: told[id].start for id in starts} == pytest.approx(starts)
    assert all(span.start <= now for id, span in told.items() if id not in starts)


@given(SEEDS, st.sampled_from(sorted(CURVES)), st.floats(0, 1))
def test_while_an_action_runs(seed: int, curve: str, part: float) -> None:
    dispatcher, now = under_way(seed, curve, (BUCKET,))
    action = dispatcher.next(now)
    assert action is not None
    seconds = seconds_of(action, dispatcher.costs)
    told = dispatcher.forecast(now + part * seconds)
    dispatcher.ran(seconds)
    ends = ends_of(drive(dispatcher, now + seconds))
    if named(action)[0] == "decode":
        ends[named(action)[1][0]] = now + seconds
    assert {id: span.end for id, span in told.items()} == pytest.approx(ends)


def test_what_runs_longer_than_expected_ends_now() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    dispatcher.add(demand(0, steps=2))
    action = dispatcher.next(0.0)
    assert action is not None
    left = dispatcher.costs.alone(BUCKET, (3, 3)) - dispatcher.costs.stage(BUCKET, "encode")
    assert dispatcher.forecast(5.0)[0].end == pytest.approx(5.0 + left)
    assert dispatcher.forecast(5.0)[0].start == 0.0


@settings(max_examples=200)
@given(SEEDS, st.sampled_from(sorted(CURVES)), st.floats(0, 3), st.integers(1, 3))
def test_pictures_that_come_later(seed: int, curve: str, later: float, count: int) -> None:
    dispatcher, now = under_way(seed, curve, (BUCKET,))
    extra = some_demands(seed + 2, count, first=200)
    told = dispatcher.forecast(now, extra, at=now + later)
    done = drive(dispatcher, now, until=now + later)
    over = max(done[-1].end if done else now, now + later)
    for each in extra:
        dispatcher.add(each)
    ends = ends_of(done) | ends_of(drive(dispatcher, over))
    assert {id: span.end for id, span in told.items()} == pytest.approx(ends)


@given(SEEDS, st.floats(0, 0.3))
def test_asking_changes_nothing(seed: int, later: float) -> None:
    one, now = under_way(seed, "a100", (BUCKET, LARGE))
    other, _ = under_way(seed, "a100", (BUCKET, LARGE))
    one.forecast(now, some_demands(seed, 2, (BUCKET, LARGE), first=300), at=now + later, haste=2)
    assert drive(one, now) == drive(other, now)


@settings(max_examples=100)
@given(SEEDS)
def test_another_haste_than_the_present_one(seed: int) -> None:
    dispatcher, now = under_way(seed, "a100", (BUCKET,))
    told = dispatcher.forecast(now, haste=2)
    dispatcher.haste = 2
    assert {id: span.end for id, span in told.items()} == pytest.approx(ends_of(drive(dispatcher, now)))


@settings(max_examples=200)
@given(
    SEEDS,
    st.sampled_from(sorted(CURVES)),
    st.sampled_from([Rules(), Rules(buckets=1), Rules(buckets=2, variants=1), Rules(variants=1)]),
    st.floats(0, 3),
)
def test_several_buckets_exactly(seed: int, curve: str, rules: Rules, later: float) -> None:
    buckets = (BUCKET, SMALL, LARGE, Bucket("lora", 6, 24, variant=("a",)), Bucket("other", 6, 24, variant=("b",)))
    dispatcher, now = under_way(seed, curve, buckets, rules)
    extra = some_demands(seed + 2, 3, buckets, first=200)
    told = dispatcher.forecast(now, extra, at=now + later)
    device = Device(dispatcher, now)
    device.go_on(until=now + later)
    for each in extra:
        dispatcher.add(each)
    device.go_on()
    assert {id: span.end for id, span in told.items()} == pytest.approx(device.ends)


def test_a_picture_of_a_bucket_that_is_limited() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    dispatcher.limit(BUCKET, 1)
    extra = [demand(number) for number in range(3)]
    told = dispatcher.forecast(0.0, extra)
    alone = dispatcher.costs.alone(BUCKET, (3,) * 5)
    assert [told[number].end for number in range(3)] == pytest.approx([alone, 2 * alone, 3 * alone])


def test_nothing_is_expected_of_nothing() -> None:
    assert Dispatcher(costs_of("a100")).forecast(3.0) == {}
    assert Dispatcher(costs_of("a100")).forecast(3.0, (), at=9.0) == {}


def test_one_that_comes_to_an_idle_device_later_begins_then() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    one = Demand(0, BUCKET, (3,) * 20, 0.0)
    (span,) = dispatcher.forecast(1.0, (one,), at=4.0).values()
    assert (span.start, span.end) == (4.0, pytest.approx(4.0 + dispatcher.costs.alone_of(one)))
