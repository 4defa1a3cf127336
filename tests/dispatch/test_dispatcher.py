"""Several buckets on one device: equal seconds, how many may be in a pool at once, and which weights."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.dispatch.demand import Bucket, Demand
from pixrt.dispatch.dispatcher import Dispatcher, Rules
from queues import Did, costs_of, demand, drive, ends_of, some_demands

SMALL = Bucket("small", slots=8, most_rows=24, area=1.0)
MIDDLE = Bucket("middle", slots=8, most_rows=24, area=2.5)
LARGE = Bucket("large", slots=8, most_rows=24, area=9.0)
BUCKETS = (SMALL, MIDDLE, LARGE)


def busy(buckets: Sequence[Bucket], pictures: int = 4, steps: int = 1000, rules: Rules | None = None) -> Dispatcher:
    dispatcher = Dispatcher(costs_of("a100", *buckets), rules)
    for number in range(pictures * len(buckets)):
        dispatcher.add(demand(number, steps=steps, bucket=buckets[number % len(buckets)]))
    return dispatcher


def seconds_by_bucket(done: Sequence[Did], first: float, last: float) -> Counter[Bucket]:
    seconds: Counter[Bucket] = Counter()
    for each in done:
        seconds[each.bucket] += max(0.0, min(each.end, last) - max(each.start, first))  # type: ignore[assignment]
    return seconds


@pytest.mark.parametrize("buckets", [(SMALL, LARGE), BUCKETS, (LARGE, MIDDLE)])
def test_buckets_have_equal_seconds_whatever_their_calls_cost(buckets: tuple[Bucket, ...]) -> None:
    """At any time none is more than a call of each and a share behind another."""
    dispatcher = busy(buckets)
    longest = max(dispatcher.costs.step(bucket, 13) for bucket in buckets)
    done = drive(dispatcher, until=100.0)
    for last in range(5, 100, 5):
        seconds = seconds_by_bucket(done, 0.0, last)
        assert set(seconds) == set(buckets)
        assert max(seconds.values()) - min(seconds.values()) <= 2 * longest + 1e-9


def test_one_that_was_alone_owes_nothing() -> None:
    dispatcher = busy((LARGE,))
    done = drive(dispatcher, until=50.0)
    now = done[-1].end
    for number in range(100, 104):
        dispatcher.add(demand(number, steps=1000, bucket=SMALL))
    done = drive(dispatcher, now, until=now + 40)
    seconds = seconds_by_bucket(done, now, now + 40)
    longest = dispatcher.costs.step(LARGE, 13)
    assert abs(seconds[LARGE] - seconds[SMALL]) <= 2 * longest


def test_one_that_comes_and_goes_gets_no_more_than_its_share() -> None:
    """Single short pictures, one after the other: each begins a new turn, but not a second one in a row."""
    dispatcher = busy((MIDDLE,))
    now, number, done = 0.0, 1000, list[Did]()
    while now < 60.0:
        if not dispatcher.inside(SMALL):
            dispatcher.add(demand(number, steps=2, bucket=SMALL))
            number += 1
        new = drive(dispatcher, now, until=now + 1e-9)
        now = new[-1].end
        done += new
    seconds = seconds_by_bucket(done, 0.0, 60.0)
    assert seconds[MIDDLE] >= 0.45 * 60
    assert seconds[SMALL] > 1.0


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, None]))
def test_so_many_buckets_have_pictures_in_a_pool(seed: int, most: int | None) -> None:
    demands = some_demands(seed, 12, BUCKETS)
    dispatcher = Dispatcher(costs_of("a100", *BUCKETS), Rules(buckets=most))
    for each in demands:
        dispatcher.add(each)
    inside: Counter[Bucket] = Counter()
    for did in drive(dispatcher):
        inside[did.bucket] += {"encode": 1, "decode": -1, "step": 0}[did.kind]
        assert sum(count > 0 for count in inside.values()) <= (most or 3)
    assert len(dispatcher) == 0


@given(st.integers(0, 10**6), st.sampled_from([1, 2, None]))
def test_so_many_other_weights_are_in_a_pool(seed: int, most: int | None) -> None:
    """The network's own weights are always at hand; those of LoRAs take room."""
    buckets = [Bucket((size, lora), 8, 24, variant=lora) for size in (1, 2) for lora in ((), ("a",), ("b",), ("c",))]
    demands = some_demands(seed, 16, buckets)
    dispatcher = Dispatcher(costs_of("a100", *buckets), Rules(variants=most))
    for each in demands:
        dispatcher.add(each)
    inside: Counter[Bucket] = Counter()
    for did in drive(dispatcher):
        inside[did.bucket] += {"encode": 1, "decode": -1, "step": 0}[did.kind]
        variants = {bucket.variant for bucket, count in inside.items() if count} - {()}
        assert len(variants) <= (most or 3)
    assert len(dispatcher) == 0


def test_outside_the_first_that_is_due_comes_in_first() -> None:
    dispatcher = Dispatcher(costs_of("a100", *BUCKETS), Rules(buckets=1))
    for number, bucket, due in ((0, SMALL, 5.0), (1, MIDDLE, 3.0), (2, LARGE, 4.0)):
        dispatcher.add(demand(number, bucket=bucket, due=due))
    ends = ends_of(drive(dispatcher))
    assert sorted(ends, key=lambda number: ends[number]) == [1, 2, 0]


def test_in_haste_what_is_due_first_goes_first_whatever_its_bucket() -> None:
    dispatcher = Dispatcher(costs_of("proportional", *BUCKETS))
    assert dispatcher.hastes([demand(0, bucket=SMALL), demand(1, bucket=LARGE)]) == [0, 1]
    dispatcher.haste = 1
    for number, bucket, due in ((0, SMALL, 5.0), (1, MIDDLE, 3.0), (2, LARGE, 4.0), (3, SMALL, 3.5)):
        dispatcher.add(demand(number, bucket=bucket, due=due))
    ends = ends_of(drive(dispatcher))
    assert sorted(ends, key=lambda number: ends[number]) == [1, 3, 2, 0]


def test_after_haste_nobody_owes() -> None:
    dispatcher = busy((SMALL, LARGE))
    dispatcher.haste = 1
    now = drive(dispatcher, until=50.0)[-1].end
    dispatcher.haste = 0
    seconds = seconds_by_bucket(drive(dispatcher, now, until=now + 40), now, now + 40)
    assert abs(seconds[LARGE] - seconds[SMALL]) <= 2 * dispatcher.costs.step(LARGE, 13)


def test_a_bucket_that_is_being_prepared_keeps_nobody_waiting() -> None:
    dispatcher = Dispatcher(costs_of("a100", *BUCKETS), Rules(buckets=1))
    dispatcher.add(demand(0, bucket=SMALL), ready=False)
    dispatcher.add(demand(1, bucket=MIDDLE))
    assert ends_of(drive(dispatcher)).keys() == {1}


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([Rules(), Rules(buckets=1), Rules(buckets=2, variants=1), Rules(buckets=1, phased=True)]),
)
def test_everybody_is_served_whatever_comes(seed: int, rules: Rules) -> None:
    """Pictures keep coming while others run; each is encoded once, makes its steps one by one, and is decoded once."""
    buckets = [*BUCKETS, Bucket("lora", 4, 12, variant=("a",)), Bucket("other", 4, 12, variant=("b",))]
    dispatcher, coming = Dispatcher(costs_of("a100", *buckets), rules), some_demands(seed, 40, buckets)
    expected: dict[int, Demand] = {each.id: each for each in coming}
    made: Counter[tuple[str, int]] = Counter()
    now = 0.0
    while coming or len(dispatcher):
        for _ in range(min(len(coming), 1 + seed % 3)):
            dispatcher.add(coming.pop())
        done = drive(dispatcher, now, until=now + 1e-9)
        now = done[-1].end
        made.update((each.kind, id) for each in done for id in each.ids)
    for id, each in expected.items():
        assert [made[kind, id] for kind in ("encode", "step", "decode")] == [1, len(each.rows), 1]
