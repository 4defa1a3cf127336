"""Who is taken on: seats, deadlines of their own, those of others; and when to come back."""

import copy
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.dispatch.admission import Admission, Refusal
from pixrt.dispatch.demand import Bucket, Demand, due_by
from pixrt.dispatch.dispatcher import Dispatcher, Span
from queues import BUCKET, CURVES, Device, costs_of, demand, drive, ends_of, named, rows_of, seconds_of

SEEDS = st.integers(0, 10**6)


def admission_of(curve: str = "a100", seats: int = 100, margin: float = 0.0) -> tuple[Admission, Dispatcher]:
    dispatcher = Dispatcher(costs_of(curve))
    return Admission(dispatcher, seats, margin), dispatcher


def ask(admission: Admission, *demands: Demand, now: float = 0.0) -> tuple[Span, ...] | Refusal:
    return admission.hold(len(demands), now) or admission.admit(demands, now)


def with_deadline(id: int, seconds: float, arrival: float = 0.0, steps: int = 20, rows: int = 3) -> Demand:
    """Of use for so many seconds."""
    return Demand(id, BUCKET, (rows,) * steps, arrival + seconds, arrival + seconds)


def test_seats_are_held_and_given_back() -> None:
    admission, _ = admission_of(seats=3)
    assert admission.hold(2, 0.0) is None
    assert admission.free == 1
    assert admission.hold(2, 0.0) == Refusal("full", 0)
    admission.release(2)
    assert admission.hold(3, 0.0) is None
    assert admission.free == 0


def test_a_seat_ends_with_its_picture() -> None:
    admission, dispatcher = admission_of(seats=2)
    assert not isinstance(ask(admission, demand(0), demand(1)), Refusal)
    assert admission.free == 0
    dispatcher.remove(0)
    assert admission.free == 1
    drive(dispatcher)
    assert admission.free == 2


def test_pictures_that_are_asked_for_together_come_in_together_or_not_at_all() -> None:
    admission, dispatcher = admission_of(seats=5)
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    both = with_deadline(0, 10 * alone), with_deadline(1, 0.5 * alone)
    assert isinstance(ask(admission, *both), Refusal)
    assert (len(dispatcher), admission.free) == (0, 5)
    assert ask(admission, demand(2), demand(3), demand(4), demand(5), demand(6), demand(7)) == Refusal("full", None)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 8), st.floats(0, 3))
def test_a_seat_is_free_when_it_was_said_to_be(steps: list[int], count: int, later: float) -> None:
    device, other = Device(Dispatcher(costs_of("a100"))), Dispatcher(costs_of("a100"))
    for number, made in enumerate(steps):
        device.dispatcher.add(demand(number, steps=made))
        other.add(demand(number, steps=made))
    device.go_on(until=later)
    admission = Admission(device.dispatcher, len(steps))
    wait = admission.wait(count, later)
    if count > len(steps):
        assert wait is None
        return
    assert wait is not None
    ends = sorted(ends_of(drive(other)).values())
    assert wait == max(0, math.ceil(round(ends[count - 1] - later, 9)))
    device.go_on(until=later + wait)
    assert admission.free >= count


def test_a_deadline_that_the_forecast_misses_is_refused() -> None:
    admission, dispatcher = admission_of("proportional")
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    assert ask(admission, with_deadline(0, 1.01 * alone)) == (Span(0.0, pytest.approx(alone)),)
    refusal = ask(admission, with_deadline(1, 1.99 * alone))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "late"
    assert refusal.end == pytest.approx(2 * alone)
    assert not isinstance(ask(admission, with_deadline(2, 2.01 * alone)), Refusal)


def test_a_deadline_that_no_device_keeps_is_refused_for_ever() -> None:
    admission, dispatcher = admission_of()
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    assert ask(admission, with_deadline(0, 0.99 * alone)) == Refusal("late", None, pytest.approx(alone))


def test_a_margin_is_part_of_what_a_picture_may_take() -> None:
    admission, dispatcher = admission_of(margin=0.1)
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    assert isinstance(ask(admission, with_deadline(0, 1.09 * alone)), Refusal)
    assert not isinstance(ask(admission, with_deadline(1, 1.11 * alone)), Refusal)


def test_one_that_makes_an_accepted_one_late_is_refused() -> None:
    admission, dispatcher = admission_of("proportional")
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    ask(admission, with_deadline(0, 1.5 * alone))
    urgent = with_deadline(1, 0.7 * alone, steps=12)
    refusal = ask(admission, urgent)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "others"
    assert refusal.retry_after is not None


def test_one_that_has_time_goes_behind_those_it_would_make_late() -> None:
    admission, dispatcher = admission_of("proportional")
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    ask(admission, with_deadline(0, 1.1 * alone))
    (span,) = ask(admission, replace(demand(1, steps=20), due=0.0))  # type: ignore[misc]
    assert span.end == pytest.approx(2 * alone)
    assert ends_of(drive(dispatcher))[0] == pytest.approx(alone)


def test_haste_is_made_where_a_deadline_needs_it_and_no_longer() -> None:
    """A100: 12 rows at once take 3.4 times as long as 3, so that four with 3 times their time have to be hastened."""
    admission, dispatcher = admission_of("a100")
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    for number in range(3):
        assert not isinstance(ask(admission, with_deadline(number, 3 * alone)), Refusal)
    assert dispatcher.haste == 0
    assert not isinstance(ask(admission, with_deadline(3, 3.6 * alone)), Refusal)
    assert dispatcher.haste > 0
    done = drive(dispatcher)
    assert all(end <= limit * alone for end, limit in zip(ends_of(done).values(), (3, 3, 3, 3.6), strict=True))
    ask(admission, demand(9), now=done[-1].end)
    assert dispatcher.haste == 0


def test_what_is_late_anyway_keeps_nobody_out() -> None:
    """A device that was slower than expected: an accepted picture is late, whoever else comes."""
    admission, dispatcher = admission_of("proportional")
    alone = dispatcher.costs.alone(BUCKET, (3,) * 20)
    ask(admission, with_deadline(0, 1.2 * alone))
    action = dispatcher.next(0.0)
    assert action is not None
    dispatcher.ran(seconds_of(action, dispatcher.costs))
    assert not isinstance(ask(admission, with_deadline(1, 9 * alone, 0.5 * alone), now=0.5 * alone), Refusal)


SMALL, LARGE = Bucket("small", 8, 24, area=0.5), Bucket("large", 4, 12, area=2.0)


@settings(max_examples=80)
@given(SEEDS, st.sampled_from(sorted(CURVES)), st.booleans(), st.sampled_from([(BUCKET,), (BUCKET, SMALL, LARGE)]))
def test_no_accepted_deadline_is_missed_and_no_refusal_lies(
    seed: int, curve: str, all_in_haste: bool, buckets: tuple[Bucket, ...]
) -> None:
    """Pictures of any kind come at any time; who is refused and comes back when told, alone, is accepted then."""
    drawn, arrival = random.Random(seed), 0.0
    dispatcher = Dispatcher(costs_of(curve, *buckets))
    admission = Admission(dispatcher, seats=12, margin=0.0)
    device, deadlines = Device(dispatcher), dict[int, float]()
    for number in range(25):
        arrival += drawn.expovariate(3.0)
        device.go_on(until=arrival)
        bucket, rows = drawn.choice(buckets), rows_of(drawn.randrange(1 << 30), drawn.randrange(1, 30))
        alone = dispatcher.costs.alone(bucket, rows)
        deadline = arrival + alone * drawn.uniform(0.9, 6) if all_in_haste or drawn.random() < 0.6 else None
        asked = Demand(number, bucket, rows, due_by(arrival, alone, deadline), deadline)
        answer = ask(admission, asked, now=arrival)
        if isinstance(answer, Refusal):
            require_honest(admission, device, asked, answer, arrival)
        else:
            deadlines[number] = math.inf if deadline is None else deadline
    device.go_on()
    assert device.ends.keys() == deadlines.keys()
    assert all(device.ends[number] <= deadline + 1e-6 for number, deadline in deadlines.items())


def require_honest(admission: Admission, device: Device, asked: Demand, refusal: Refusal, now: float) -> None:
    """Come back when told, to a copy of the device to which nothing else has come."""
    admission, device = copy.deepcopy((admission, device))
    wait = refusal.retry_after
    if wait is None:
        device.go_on()
        wait = math.ceil(device.now - now) + 1
    device.go_on(until=now + wait)
    again = replace(asked, due=asked.due + wait, deadline=None if asked.deadline is None else asked.deadline + wait)
    answer = admission.hold(1, now + wait)
    assert answer is None, "a seat is free"
    if refusal.reason != "full":
        accepted = not isinstance(admission.admit((again,), now + wait), Refusal)
        assert accepted == (refusal.retry_after is not None)


def test_a_refusal_while_an_action_runs() -> None:
    admission, dispatcher = admission_of("proportional", seats=1)
    ask(admission, demand(0))
    assert named(dispatcher.next(0.0)) == ("encode", (0,))
    alone = dispatcher.costs.alone(BUCKET, (3,) * 5)
    assert ask(admission, demand(1), now=0.001) == Refusal("full", math.ceil(alone - 0.001))
