"""A shift in its hard moments, one by one; then whatever may happen in whatever order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.serve import messages as say
from pixrt.serve.problems import Problem
from pixrt.serve.readings import MOST
from pixrt.serve.tickets import Asked, Event, State, Ticket
from shifts import (
    BAD_FILE,
    CLIENT,
    DIED,
    NO_MEMORY,
    SEATS,
    SLOTS,
    STAGE_SECONDS,
    STEP_SECONDS,
    Scene,
    asks,
    bucket,
)

Some = TypeVar("Some", bound="asyncio.Task[Any]")
ENDS = ("done", "failed", "cancelled")


def scene(test: Callable[[Scene], Awaitable[None]]) -> Callable[[], None]:
    """A test in a scene of its own, of which nothing must be left."""

    @wraps(test)
    def run() -> None:
        async def played() -> None:
            with Scene() as made:
                await test(made)
                made.require_nothing_left()

        asyncio.run(played())

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for its argument
    return run


def submit(made: Scene, *asked: Asked, keep: bool = False) -> "asyncio.Task[list[Ticket]]":
    return asyncio.create_task(made.shift.submit(asked or (asks(),), CLIENT, keep))


async def accepted(made: Scene, *asked: Asked) -> list[Ticket]:
    """Pictures that are checked, prepared and accepted."""
    task = submit(made, *asked)
    await settle()
    while places := [at for at, (kind, *_) in enumerate(made.worker.codecs) if kind in ("check", "prepare")]:
        made.worker.codec(places[0])
    return await task


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def finish(made: Scene) -> None:
    """The worker does all that it has to do."""
    while made.worker.orders or made.worker.codecs:
        if made.worker.orders:
            made.worker.device()
        if made.worker.codecs:
            made.worker.codec()


async def events(ticket: Ticket) -> list[Event]:
    return [event async for event in ticket.follow()]


def kinds(made: Scene) -> list[str]:
    return [each.kind for each in made.worker.sent if isinstance(each, say.Do)]


@scene
async def test_a_picture_from_its_request_to_its_result(made: Scene) -> None:
    (ticket,) = await accepted(made, asks(steps=2, previews=1))
    assert (ticket.state, ticket.steps) == (State.RUNNING, 2)
    finish(made)
    assert kinds(made) == ["encode", "step", "step", "decode"]
    assert (await ticket.wait()).data == b"made"
    told = await events(ticket)
    assert [event.name for event in told] == ["queued", "step", "preview", "step", "done"]
    assert told[2].data == {"index": 0, "step": 1, "of": 2}
    assert [event.id for event in told] == sorted({event.id for event in told})
    assert ticket.asked.image is None


@scene
async def test_the_device_waits_for_a_picture_that_is_being_prepared(made: Scene) -> None:
    task = submit(made)
    await settle()
    made.worker.codec()
    (ticket,) = await task
    assert (ticket.state, list(made.worker.orders)) == (State.QUEUED, [])
    made.worker.codec()
    assert kinds(made) == ["encode"]
    finish(made)


@scene
async def test_what_is_prepared_before_it_is_accepted_begins_at_once(made: Scene) -> None:
    task = submit(made, asks(), asks())
    await settle()
    made.worker.codec(0)  # the first is checked,
    made.worker.codec(1)  # and prepared,
    assert not task.done()
    made.worker.codec(0)  # before the second is checked
    tickets = await task
    assert [ticket.state for ticket in tickets] == [State.RUNNING, State.QUEUED]
    finish(made)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("stage", ["check", "prepare"])
def test_one_bad_picture_refuses_all_of_its_request(which: int, stage: str) -> None:
    @scene
    async def played(made: Scene) -> None:
        task = submit(made, asks(), asks(), asks())
        await settle()
        first = made.worker.codecs[0][1]
        while made.worker.codecs:  # all in one go: the request's own task has no turn before the end
            kind, number, _ = made.worker.codecs[0]
            made.worker.codec(0, BAD_FILE if (kind, number) == (stage, first + which) else None)
        with pytest.raises(Problem, match="cannot be decoded"):
            await task
        finish(made)
        assert made.metrics.begun == []

    played()


@scene
async def test_a_picture_that_breaks_when_it_is_accepted_already(made: Scene) -> None:
    task = submit(made)
    await settle()
    made.worker.codec()
    (ticket,) = await task
    made.worker.codec(0, BAD_FILE)
    with pytest.raises(Problem, match="cannot be decoded"):
        await ticket.wait()
    assert kinds(made) == []
    finish(made)


@scene
async def test_a_worker_that_dies_while_pictures_are_checked(made: Scene) -> None:
    task = submit(made, asks(), asks())
    await settle()
    made.worker.codec()
    made.die()
    with pytest.raises(Problem) as raised:
        await task
    assert (raised.value.status, raised.value.retry_after) == (503, 3)
    assert raised.value is not DIED  # which would hold the frames of all


@scene
async def test_a_worker_that_dies_between_check_and_acceptance(made: Scene) -> None:
    task = submit(made)
    await settle()
    made.worker.codec()
    made.die()
    sent = len(made.worker.sent)
    with pytest.raises(Problem, match="has ended"):
        await task
    assert len(made.worker.sent) == sent


@scene
async def test_a_worker_that_dies_fails_all_that_is_under_way(made: Scene) -> None:
    tickets = await accepted(made, asks(), asks())
    made.worker.device()
    made.die()
    for ticket in tickets:
        with pytest.raises(Problem, match="has ended"):
            await ticket.wait()
        assert ticket.state is State.FAILED


@pytest.mark.parametrize("turns", range(5))
def test_a_request_that_is_given_up_at_any_moment(turns: int) -> None:
    @scene
    async def played(made: Scene) -> None:
        task = submit(made, asks(), asks())
        for _ in range(turns):
            await asyncio.sleep(0)
            if made.worker.codecs:
                made.worker.codec()
        task.cancel()
        try:
            for ticket in await task:
                ticket.cancel()
        except asyncio.CancelledError:
            pass
        finish(made)

    played()


def cancelled_in(*before: str) -> Callable[[], None]:
    """A test: a picture is cancelled once this has happened, and another goes on."""

    @scene
    async def played(made: Scene) -> None:
        task = submit(made)
        await settle()
        made.worker.codec()
        (ticket,) = await task
        for what in before:
            made.worker.codec() if what == "codec" else made.worker.device()
        (other,) = await accepted(made, asks())
        ticket.cancel()
        ticket.cancel()
        assert ticket.state is State.CANCELLED
        finish(made)
        assert other.state is State.DONE
        assert made.worker.is_empty
        assert [event.name for event in await events(ticket) if event.name in ENDS] == ["cancelled"]
        with pytest.raises(Problem) as raised:
            await ticket.wait()
        assert raised.value.status == 499

    return played


@pytest.mark.parametrize(
    "before",
    [
        (),  # being prepared
        ("codec",),  # the device is busy encoding it
        ("codec", "device"),  # with its first step
        ("codec", "device", "device"),  # with its second
        ("codec", "device", "device", "device"),  # decoding it
        ("codec", "device", "device", "device", "device"),  # it is being written
    ],
)
def test_cancelling_in_every_state(before: tuple[str, ...]) -> None:
    cancelled_in(*before)()


@scene
async def test_cancelling_one_that_waits_lets_the_next_one_in(made: Scene) -> None:
    tickets = [(await accepted(made))[0] for _ in range(SEATS)]
    with pytest.raises(Problem) as raised:
        await submit(made)
    assert (raised.value.status, raised.value.code) == (429, "queue_full")
    assert raised.value.retry_after is not None
    tickets[-1].cancel()
    assert (await accepted(made))[0].state is State.QUEUED
    finish(made)


@scene
async def test_more_pictures_than_seats_are_never_taken(made: Scene) -> None:
    with pytest.raises(Problem) as raised:
        await submit(made, *[asks()] * (SEATS + 1))
    assert (raised.value.status, raised.value.param, raised.value.retry_after) == (400, "n", None)


@pytest.mark.parametrize("stage", ["encode", "step", "decode", "write"])
def test_a_picture_that_breaks_in_any_stage_leaves_the_others_alone(stage: str) -> None:
    @scene
    async def played(made: Scene) -> None:
        (ticket,) = await accepted(made)
        while True:
            if stage == "write" and made.worker.codecs:
                made.worker.codec(0, NO_MEMORY)
                break
            order = made.worker.orders[0]
            if isinstance(order, say.Do) and order.kind == stage:
                made.worker.device(NO_MEMORY)
                break
            made.worker.device()
        (other,) = await accepted(made)
        finish(made)
        assert (ticket.state, other.state) == (State.FAILED, State.DONE)
        assert ticket.problem is not None
        assert ticket.problem.status == 507
        failed = {"task": "edit", "outcome": "out_of_memory"}
        assert made.metrics.registry.get_sample_value("pixrt_pictures_total", failed) == 1

    played()


@scene
async def test_out_of_memory_lowers_what_the_pool_holds(made: Scene) -> None:
    await accepted(made, *[asks(steps=9)] * SLOTS)
    while made.shift.dispatcher.inside(bucket()) < SLOTS:
        made.worker.device()
    order = made.worker.orders[0]
    assert isinstance(order, say.Do)
    assert (order.kind, len(order.numbers)) == ("step", SLOTS)
    made.worker.device(NO_MEMORY, slots=1)
    finish(made)
    steps = [each for each in made.worker.sent if isinstance(each, say.Do) and each.kind == "step"]
    assert {len(each.numbers) for each in steps[1:]} == {1}
    assert [ticket.state for ticket in made.metrics.begun] == [State.DONE] * SLOTS


@scene
async def test_out_of_memory_while_encoding_lets_nobody_else_in(made: Scene) -> None:
    tickets = await accepted(made, *[asks(steps=9)] * SEATS)
    for _ in range(2):
        made.worker.device()
    made.worker.device(NO_MEMORY)  # the third, with two in the pool
    most = 0
    while made.worker.orders or made.worker.codecs:
        most = max(most, made.shift.dispatcher.inside(bucket()))
        made.worker.device() if made.worker.orders else made.worker.codec()
    last = [each for each in made.worker.sent if isinstance(each, say.Do) and each.kind == "step"][-10:]
    assert most == max(len(each.numbers) for each in last) == 2
    assert [ticket.state for ticket in tickets].count(State.DONE) == SEATS - 1


@scene
async def test_places_that_are_lost_with_some_cancelled_meanwhile(made: Scene) -> None:
    tickets = await accepted(made, *[asks(steps=3)] * SLOTS)
    while made.shift.dispatcher.inside(bucket()) < SLOTS:
        made.worker.device()
    made.worker.device()
    assert [ticket.step for ticket in tickets] == [1] * SLOTS
    tickets[1].cancel()
    made.worker.device(NO_MEMORY, slots=2)
    assert [ticket.step for ticket in tickets] == [0, 1, 0]
    finish(made)
    assert [ticket.state for ticket in tickets] == [State.DONE, State.CANCELLED, State.DONE]


@scene
async def test_a_deadline_that_passes_in_the_queue(made: Scene) -> None:
    (first,) = await accepted(made)
    (late,) = await accepted(made, asks(deadline_ms=5000))
    assert (first.state, late.state) == (State.RUNNING, State.QUEUED)
    made.clock.now += 6
    finish(made)
    assert (first.state, late.state) == (State.DONE, State.FAILED)
    assert late.problem is not None
    assert late.problem.code == "deadline_passed"


@scene
async def test_what_waits_longer_than_its_deadline_is_not_begun(made: Scene) -> None:
    task = submit(made, asks(deadline_ms=2000))
    await settle()
    made.worker.codec()
    (ticket,) = await task
    made.clock.now += 2.5  # the device would be free, but the picture is not prepared
    made.worker.codec()
    with pytest.raises(Problem) as raised:
        await ticket.wait()
    assert (raised.value.status, raised.value.code, raised.value.retry_after) == (504, "deadline_passed", None)
    assert kinds(made) == []
    assert made.metrics.registry.get_sample_value("pixrt_deadline_misses_total") == 1
    finish(made)


@scene
async def test_a_deadline_that_cannot_be_met_is_refused(made: Scene) -> None:
    alone_ms = int(1000 * (2 * STAGE_SECONDS + 2 * STEP_SECONDS))
    with pytest.raises(Problem) as raised:
        await accepted(made, asks(deadline_ms=alone_ms // 2))
    assert (raised.value.status, raised.value.retry_after) == (504, None)
    (ticket,) = await accepted(made, asks(deadline_ms=alone_ms * 2))
    assert ticket.prediction.end - made.clock.time() == pytest.approx(alone_ms / 1000)
    assert ticket.alone_seconds == pytest.approx(alone_ms / 1000)
    assert made.shift.backlog(made.clock.time()) == pytest.approx(alone_ms / 1000)
    finish(made)
    assert made.shift.backlog(made.clock.time()) == 0


@scene
async def test_who_waits_is_told_the_place_and_the_end(made: Scene) -> None:
    tickets = [(await accepted(made))[0] for _ in range(3)]
    assert [ticket.place for ticket in tickets] == [0, 0, 1]
    ends = [ticket.prediction.end for ticket in tickets]
    assert ends == sorted(ends)
    made.clock.now += 5
    made.shift.predict_again()
    assert all(ticket.prediction.end >= made.clock.time() for ticket in tickets)
    assert [ticket.promised.end for ticket in tickets] == ends, "what was said at first is not forgotten"
    finish(made)


@scene
async def test_a_slow_listener_misses_nothing(made: Scene) -> None:
    (ticket,) = await accepted(made, asks(steps=4, previews=3))
    heard = []
    async for event in ticket.follow():
        heard.append(event.name)
        finish(made)  # everything happens while the first event is looked at
    assert (heard[0], heard.count("preview"), heard[-1]) == ("queued", 3, "done")


@scene
async def test_the_device_that_does_not_come_back_is_stuck(made: Scene) -> None:
    await accepted(made)
    made.clock.now += 7
    assert made.shift.stuck_for(made.clock.now) == pytest.approx((7, STAGE_SECONDS))
    finish(made)
    assert made.shift.stuck_for(made.clock.now) == (0, 0)


@scene
async def test_codecs_that_do_not_come_back_are_stuck(made: Scene) -> None:
    made.clock.now += 100  # nothing is asked of them
    assert made.shift.stuck_for(made.clock.now)[0] == 0
    task = submit(made, asks(), asks())
    await settle()
    made.clock.now += 7
    assert made.shift.stuck_for(made.clock.now)[0] == 7
    made.worker.codec()  # one of them is there
    made.clock.now += 2
    assert made.shift.stuck_for(made.clock.now)[0] == 2
    made.worker.codec()
    await task
    made.clock.now += 3
    assert made.shift.stuck_for(made.clock.now)[0] == 3  # preparing
    finish(made)
    assert made.shift.stuck_for(made.clock.now)[0] == 0


@scene
async def test_draining_waits_for_what_is_checked_and_what_is_accepted(made: Scene) -> None:
    (ticket,) = await accepted(made)
    task = submit(made)
    await settle()
    finished = asyncio.create_task(made.shift.finish())
    while ticket.state is not State.DONE:
        made.worker.device() if made.worker.orders else made.worker.codec(-1)
    await settle()
    assert not finished.done()
    while not task.done():
        made.worker.codec()
        await settle()
    finish(made)
    await asyncio.wait_for(finished, 10)


def quiet(task: Some) -> Some:
    """A task that may fail without a word at exit, if hypothesis gives its example up."""
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return task


class Play:
    """A random course of everything that may happen."""

    def __init__(self, made: Scene, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self.made, self.draw = made, draw
        self.tasks: list[asyncio.Task[list[Ticket]]] = []
        self.waiting: list[asyncio.Task[object]] = []

    def below(self, count: int) -> int:
        return self.draw(st.integers(0, count - 1))

    def submit(self) -> None:
        count = (1, 1, 2, 3)[self.below(4)]
        deadline = (None, None, 50, 500, 3000)[self.below(5)]
        text, loras = ("small", "large")[self.below(2)], ((), (("a", 1.0),), (("b", 1.0),))[self.below(3)]
        asked = asks(text, steps=1 + self.below(3), deadline_ms=deadline, previews=self.below(3), loras=loras)
        self.tasks.append(quiet(submit(self.made, *[asked] * count, keep=bool(self.below(2)))))

    def codec(self) -> None:
        if self.made.worker.codecs:
            place = self.below(len(self.made.worker.codecs))
            self.made.worker.codec(place, (None, None, None, BAD_FILE)[self.below(4)])

    def device(self) -> None:
        if self.made.worker.orders:
            problem = (None, None, None, None, NO_MEMORY)[self.below(5)]
            self.made.worker.device(problem, seconds=0.02 * self.below(10), slots=(None, 1, 2)[self.below(3)])

    def cancel(self) -> None:
        if self.made.metrics.begun:
            self.made.metrics.begun[self.below(len(self.made.metrics.begun))].cancel()

    def give_up(self) -> None:
        if self.tasks:
            self.tasks[self.below(len(self.tasks))].cancel()

    def wait(self) -> None:
        if self.made.metrics.begun:
            ticket = self.made.metrics.begun[self.below(len(self.made.metrics.begun))]
            self.waiting.append(quiet(asyncio.create_task(ticket.wait())))

    def time(self) -> None:
        self.made.clock.now += (0.01, 0.2, 3.0)[self.below(3)]
        self.made.shift.predict_again()
        self.made.shift.stuck_for(self.made.clock.now)

    async def go(self, steps: int) -> None:
        ways = (self.submit, self.codec, self.codec, self.device, self.device, self.cancel, self.give_up, self.wait)
        for _ in range(steps):
            (*ways, self.time)[self.below(len(ways) + 1)]()
            for _ in range(self.below(3)):
                await asyncio.sleep(0)
            admission = self.made.shift.admission
            assert admission._held + len(self.made.shift.dispatcher) <= admission.seats
            assert admission._held >= 0

    async def end(self) -> None:
        """Whatever is left comes to its end, and every ticket to exactly one."""
        made = self.made
        for _ in range(10):
            await settle()
            finish(made)
        await asyncio.wait_for(made.shift.finish(), 10)
        answers = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert all(isinstance(answer, list | Problem | asyncio.CancelledError) for answer in answers), answers
        for answer in await asyncio.gather(*self.waiting, return_exceptions=True):
            assert not isinstance(answer, BaseException) or isinstance(answer, Problem)
        await self.require_ends(made.metrics.begun)

    async def require_ends(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            told = await events(ticket)
            assert [event.name for event in told if event.name in ENDS] == [str(ticket.state)]
            assert told[-1].name == str(ticket.state)
            assert (ticket.result is None) == (ticket.problem is not None)
            assert ticket.asked.image is None


@given(st.data())
def test_everything_ends_once_whatever_happens(data: st.DataObject) -> None:
    async def played() -> None:
        with Scene() as made:
            play = Play(made, data.draw)
            await play.go(data.draw(st.integers(1, 60)))
            await play.end()
            made.require_nothing_left()

    asyncio.run(played())


@given(st.data())
def test_everything_ends_once_if_the_worker_dies(data: st.DataObject) -> None:
    async def played() -> None:
        with Scene() as made:
            play = Play(made, data.draw)
            await play.go(data.draw(st.integers(1, 40)))
            await settle()
            made.die()
            sent = len(made.worker.sent)
            await play.end()
            assert len(made.worker.sent) == sent
            made.require_nothing_left()

    asyncio.run(played())


# What pictures say of themselves.


def read(made: Scene) -> "asyncio.Task[Any]":
    return asyncio.create_task(made.shift.read(b"a picture"))


@scene
async def test_what_a_picture_says_takes_no_seat(made: Scene) -> None:
    task = read(made)
    await settle()
    assert made.shift.admission.free == SEATS
    assert isinstance(made.worker.sent[-1], say.Read)
    made.worker.codec()
    assert await task == {"number": made.worker.sent[-1].number}
    assert list(made.worker.orders) == []  # the device has nothing to forget


@scene
async def test_a_picture_that_says_nothing(made: Scene) -> None:
    task = read(made)
    await settle()
    made.worker.codec(problem=BAD_FILE)
    with pytest.raises(Problem, match="cannot be decoded"):
        await task


@scene
async def test_few_pictures_are_looked_at_together(made: Scene) -> None:
    tasks = [read(made) for _ in range(MOST)]
    await settle()
    with pytest.raises(Problem) as caught:
        await made.shift.read(b"one more")
    assert (caught.value.status, caught.value.code) == (429, "readings_full")
    made.worker.codec()
    await tasks[0]
    again = read(made)
    finish(made)
    await settle()
    finish(made)
    await asyncio.gather(again, *tasks)


@scene
async def test_a_worker_that_dies_over_it(made: Scene) -> None:
    task = read(made)
    await settle()
    made.die()
    with pytest.raises(Problem) as caught:
        await task
    assert (caught.value.status, caught.value.code) == (DIED.status, DIED.code)


@scene
async def test_nobody_waits_for_it_any_more(made: Scene) -> None:
    task = read(made)
    await settle()
    task.cancel()
    await settle()
    made.clock.now += 100
    assert made.shift.stuck_for(made.clock.now)[0] == 100  # a codec that hangs is seen all the same
    made.worker.codec()
    assert made.shift.stuck_for(made.clock.now)[0] == 0


@scene
async def test_the_end_waits_for_it(made: Scene) -> None:
    task = read(made)
    await settle()
    finished = asyncio.create_task(made.shift.finish())
    await settle()
    assert not finished.done()
    made.worker.codec()
    await finished
    assert task.done()
