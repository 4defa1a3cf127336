"""What one bucket does next: order, whole pictures, caps, a misfit that is passed, slots, haste, stages."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand, due_by
from pixrt.dispatch.dispatcher import Dispatcher, Rules
from pixrt.dispatch.lane import Step
from queues import BUCKET, CURVES, costs_of, demand, drive, named, seconds_of


def steps_of(*demands: Demand, curve: str = "a100") -> list[tuple[int, ...]]:
    """Who shares a step, one after the other."""
    dispatcher = Dispatcher(costs_of(curve))
    for each in demands:
        dispatcher.add(each)
    return [each.ids for each in drive(dispatcher) if each.kind == "step"]


def test_a_picture_is_encoded_stepped_and_decoded() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    dispatcher.add(demand(7, steps=2))
    done = [(each.kind, each.ids) for each in drive(dispatcher)]
    assert done == [("encode", (7,)), ("step", (7,)), ("step", (7,)), ("decode", (7,))]
    assert len(dispatcher) == 0
    assert dispatcher.next(0.0) is None


def test_pictures_share_a_step_whatever_their_progress() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    dispatcher.add(demand(0, steps=4))
    drive(dispatcher, until=0.05)
    dispatcher.add(demand(1, steps=4))
    done = drive(dispatcher)
    assert [each.ids for each in done if each.kind == "step"][:3] == [(0, 1), (0, 1), (0, 1)]


def test_what_is_due_first_goes_first() -> None:
    assert steps_of(demand(0, due=5), demand(1, due=3), demand(2, due=4), curve="proportional")[::5] == [
        (1,),
        (2,),
        (0,),
    ]


def test_of_equal_ones_the_earlier_goes_first() -> None:
    assert steps_of(demand(1, due=1), demand(0, due=1), curve="proportional")[::5] == [(0,), (1,)]


def test_short_pictures_pass_long_ones_and_none_waits_for_ever() -> None:
    assert due_by(10.0, 1.0, None) < due_by(9.0, 3.0, None) < due_by(20.0, 1.0, None)
    assert due_by(10.0, 1.0, 11.0) == 11.0


def test_a_call_has_the_usual_cap() -> None:
    """A100: 13 rows, so four pictures of three rows; what is left would not fill another such call."""
    assert steps_of(*(demand(id) for id in range(6)))[0] == (0, 1, 2, 3)


def test_a_backlog_raises_the_cap() -> None:
    """A100: what is left of nine pictures would fill another call, so it has the highest cap, 21 rows."""
    everyone = [demand(id, bucket=Bucket("wide", slots=16, most_rows=24)) for id in range(9)]
    dispatcher = Dispatcher(costs_of("a100", everyone[0].bucket))
    for each in everyone:
        dispatcher.add(each)
    steps = [each.ids for each in drive(dispatcher) if each.kind == "step"]
    assert steps[0] == tuple(range(7))


def test_rows_that_cost_in_proportion_are_done_soon_instead_of_together() -> None:
    assert set(steps_of(*(demand(id) for id in range(6)), curve="proportional")) == {(id,) for id in range(6)}


def test_a_misfit_is_passed_by_one_that_fits() -> None:
    rows = {0: 3, 1: 3, 2: 3, 3: 3, 4: 3, 5: 1}
    first = steps_of(*(demand(id, rows=count) for id, count in rows.items()))[0]
    assert first == (0, 1, 2, 3, 5), "12 rows, no room for 3, room for 1"


def test_a_picture_that_is_wider_than_the_cap_goes_by_itself() -> None:
    assert set(steps_of(demand(0, rows=24), demand(1, rows=24))) == {(0,), (1,)}


def test_slots_bound_the_pool() -> None:
    narrow = Bucket("narrow", slots=2, most_rows=24)
    dispatcher = Dispatcher(costs_of("4090", narrow))
    for id in range(5):
        dispatcher.add(demand(id, bucket=narrow))
    inside = 0
    for each in drive(dispatcher):
        inside += {"encode": 1, "decode": -1, "step": 0}[each.kind]
        assert inside <= 2
    assert inside == 0


def test_in_haste_calls_have_fewer_rows() -> None:
    assert Dispatcher(costs_of("a100")).hastes([demand(0)]) == [0, 2, 3, 4]
    assert Dispatcher(costs_of("proportional")).hastes([demand(0)]) == [0]
    for haste, together in enumerate((4, 4, 3, 2, 1)):  # of 13 rows: 13, 13, 9, 6, 3
        dispatcher = Dispatcher(costs_of("a100"))
        dispatcher.haste = haste
        for id in range(5):
            dispatcher.add(demand(id))
        steps = [each.ids for each in drive(dispatcher) if each.kind == "step"]
        assert steps[0] == tuple(range(together))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 4))
def test_phased_stages_follow_each_other(steps: list[int], slots: int) -> None:
    """With little memory: a group is encoded, makes all its steps, and is decoded, before the next one begins."""
    bucket = Bucket("phased", slots=slots, most_rows=24)
    dispatcher = Dispatcher(costs_of("4090", bucket), Rules(buckets=1, phased=True))
    for id, count in enumerate(steps):
        dispatcher.add(demand(id, steps=count, bucket=bucket))
    kinds = [each.kind for each in drive(dispatcher)]
    changes = [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]
    assert changes == ["encode", "step", "decode"] * (len(changes) // 3)
    assert kinds.count("decode") == kinds.count("encode") == len(steps)


@dataclass
class Told:
    """A picture as the rules of the scheduler say, without any of its code."""

    demand: Demand
    ready: bool
    at: int | None = None  # steps made; None while it waits

    @property
    def rows(self) -> int:
        return self.demand.rows[self.at or 0]

    @property
    def ended(self) -> bool:
        return self.at == len(self.demand.rows)


def chosen_by_the_rules(pictures: Sequence[Told], costs: Costs, slots: int, haste: int) -> tuple[str, tuple[int, ...]]:
    in_order = sorted(pictures, key=lambda each: (each.demand.due, each.demand.id))
    ended = [each for each in in_order if each.ended]
    if ended:
        return "decode", (ended[0].demand.id,)
    free = slots - sum(each.at is not None for each in pictures)

    def fill(cap: int) -> list[Told]:
        taken: list[Told] = []
        for each in in_order:
            new = sum(one.at is None for one in taken)
            may_join = each.at is not None or (each.ready and new < free)
            fits = not taken or sum(one.rows for one in taken) + each.rows <= cap
            if may_join and fits:
                taken.append(each)
        return taken

    usual, most = costs.caps(BUCKET)
    taken = fill(usual if haste < 2 else usual * (5 - haste) // 4)
    left = sum(each.rows for each in in_order if each.ready and each not in taken)
    if haste < 2 and left >= usual:
        taken = fill(most)
    if not taken:
        return "nothing", ()
    waiting = [each for each in taken if each.at is None]
    return ("encode", (waiting[0].demand.id,)) if waiting else ("step", tuple(each.demand.id for each in taken))


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "unready", "ready", "remove", "limit", "haste", *["go"] * 12]),
        st.integers(0, 10**6),
    ),
    max_size=120,
)


@settings(max_examples=150)
@given(MOVES, st.sampled_from(sorted(CURVES)))
def test_every_choice_is_the_rules(moves: list[tuple[str, int]], curve: str) -> None:
    """Pictures come, go, are prepared and lose their room at any time; each choice is that of the rules, told anew."""
    costs = costs_of(curve)
    dispatcher, pictures, slots, haste = Dispatcher(costs), dict[int, Told](), BUCKET.slots, 0
    for number, (move, drawn) in enumerate(moves):
        some = sorted(pictures)[drawn % len(pictures)] if pictures else None
        if move in ("add", "unready"):
            rows = tuple(1 + drawn // 7**at % 3 for at in range(1 + drawn % 9))
            pictures[number] = Told(Demand(number, BUCKET, rows, float(drawn % 13)), ready=move == "add")
            dispatcher.add(pictures[number].demand, ready=move == "add")
        elif move == "ready" and some is not None and not pictures[some].ready:
            pictures[some].ready = True
            dispatcher.ready(some)
        elif move == "remove" and some is not None:
            assert dispatcher.remove(some) == (pictures.pop(some).at is not None)
        elif move == "limit":
            slots = 1 + drawn % 9
            dispatcher.limit(BUCKET, slots)
        elif move == "haste":
            haste = dispatcher.haste = drawn % 5
        elif move == "go":
            action = dispatcher.next(float(number))
            kind, ids = named(action)
            assert (kind, ids) == chosen_by_the_rules(list(pictures.values()), costs, slots, haste)
            if action is None:
                continue
            gone = ids[drawn % len(ids)] if drawn % 11 == 0 else None
            if gone is not None:  # it is cancelled while it runs
                dispatcher.remove(gone)
                del pictures[gone]
            dispatcher.ran(seconds_of(action, costs))
            for id in set(ids) - {gone}:
                if kind == "decode":
                    del pictures[id]
                else:
                    pictures[id].at = 0 if kind == "encode" else (pictures[id].at or 0) + 1
        assert len(dispatcher) == len(pictures)
        assert dispatcher.inside(BUCKET) == sum(each.at is not None for each in pictures.values())


def test_an_action_that_failed_changes_nothing() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    dispatcher.add(demand(0))
    for _ in range(2):
        assert named(dispatcher.next(0.0)) == ("encode", (0,))
        dispatcher.failed()


def test_only_pictures_that_are_prepared_are_begun() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    dispatcher.add(demand(0), ready=False)
    assert dispatcher.next(0.0) is None
    assert 0 in dispatcher.forecast(0.0), "but it is expected"
    dispatcher.ready(0)
    assert named(dispatcher.next(0.0)) == ("encode", (0,))


def test_a_step_may_be_done_several_times_at_once() -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    dispatcher.add(Demand(0, BUCKET, (3, 3, 3, 1, 1), 0.0))
    dispatcher.add(demand(1, steps=9))
    for _ in range(2):
        assert dispatcher.next(0.0) is not None
        assert dispatcher.steady == 1, "an encoding"
        dispatcher.ran(0.1)
    action = dispatcher.next(0.0)
    assert isinstance(action, Step)
    assert dispatcher.steady == 3
    dispatcher.ran(0.1, times=3)
    assert [dispatcher.progress(id).at for id in (0, 1)] == [3, 3]


@pytest.mark.parametrize("count", [1, 5])
def test_a_bucket_is_forgotten_once_it_is_empty(count: int) -> None:
    dispatcher = Dispatcher(costs_of("a100"))
    for id in range(count):
        dispatcher.add(demand(id))
    assert dispatcher.row_caps == {"": 13}
    assert dispatcher.waiting == count
    drive(dispatcher)
    assert dispatcher.row_caps == {}
    assert dispatcher.waiting == 0
