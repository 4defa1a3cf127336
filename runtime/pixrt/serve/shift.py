"""A shift: all that is under way with one worker, from its readiness to its end. On one event loop.

It joins three things: tickets (what clients see), the dispatcher (what is next), and the worker (who does it). Must not
import numpy or Pillow.
"""

import asyncio
import itertools
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pixrt.dispatch.admission import Admission, Refusal
from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Demand, due_by
from pixrt.dispatch.dispatcher import Dispatcher, Rules, Span
from pixrt.dispatch.lane import Action, Decode, Encode, Step
from pixrt.serve import messages as say
from pixrt.serve import refusals
from pixrt.serve.metrics import Metrics
from pixrt.serve.problems import Problem
from pixrt.serve.readings import Readings
from pixrt.serve.shelf import Shelf
from pixrt.serve.supervisor import WorkerProcess
from pixrt.serve.tickets import Asked, Prediction, State, Ticket

_CODEC_SECONDS = 3.0  # in which a codec is expected to finish something
_numbers = itertools.count(1)


class Shift:
    """See the module. `seats` are the pictures that it takes care of at once; tickets to be kept go to the shelf."""

    def __init__(
        self,
        worker: WorkerProcess,
        costs: Costs,
        rules: Rules,
        seats: int,
        metrics: Metrics,
        shelf: Shelf,
        name: str = "",
    ) -> None:
        self._name = name
        self.worker = worker
        self.dispatcher = Dispatcher(costs, rules)
        self.admission = Admission(self.dispatcher, seats)
        self.state = say.State({}, {}, ())
        self.tickets: dict[int, Ticket] = {}
        self.picture_ms = 0.0  # of the last one that was accepted
        self._over: Problem | None = None  # once the worker is gone
        self._costs = costs
        self._metrics = metrics
        self._shelf = shelf
        self._checks: dict[int, asyncio.Future[say.Checked]] = {}
        self._readings = Readings(worker.send)
        self._prepared: dict[int, Problem | None] = {}  # before they are accepted: whether it went well
        self._doing: tuple[say.Do, Action, float] | None = None
        self._beside: set[int] = set()  # pictures that codecs are at, beside the device
        self._silent_since = 0.0  # the codecs
        self._idle = asyncio.Event()

    # How pictures are accepted.

    async def submit(self, asked: Sequence[Asked], client: str, keep: bool) -> list[Ticket]:
        """See `Service.submit`."""
        arrival, count = time.monotonic(), len(asked)
        refusal = self.admission.hold(count, arrival)
        if refusal is not None:
            raise refusals.problem_of(refusal, count, self.admission.seats)
        numbers = [next(_numbers) for _ in asked]
        is_held = True
        try:
            checked = await self._check(numbers, asked)
            if self._over is not None:
                raise replace(self._over)
            demands = [self._demand(each, asked[place], arrival) for place, each in enumerate(checked)]
            is_held = False
            spans = self.admission.admit(demands, time.monotonic(), ready=False)
            if isinstance(spans, Refusal):
                raise refusals.problem_of(spans, count, self.admission.seats)
        except BaseException:
            if is_held:
                self.admission.release(count)
            for number in numbers:
                self._forget(number)
            raise
        tickets = [self._ticket(*each, client, keep) for each in zip(demands, asked, spans, strict=True)]
        for number in numbers:
            if number in self._prepared:
                del self._prepared[number]
                self.dispatcher.ready(number)
        self._advance()
        return tickets

    async def _check(self, numbers: Sequence[int], asked: Sequence[Asked]) -> list[say.Checked]:
        """Have the worker look at pictures. Raises the Problem of the first that has one."""
        loop = asyncio.get_running_loop()
        waiting = {number: loop.create_future() for number in numbers}
        self._checks |= waiting
        try:
            self._begin_beside(*numbers)
            self.worker.send(say.Check(tuple(numbers), tuple(asked)))
            checked = list(await asyncio.gather(*waiting.values()))
            for number in numbers:
                if (problem := self._prepared.get(number)) is not None:
                    raise problem
            return checked
        finally:
            for number, future in waiting.items():
                del self._checks[number]
                if not future.cancel() and not future.cancelled():
                    future.exception()  # it was looked at

    async def read(self, picture: bytes) -> Mapping[str, Any]:
        """See `Service.read`."""
        self._readings.require_room()
        self._begin_beside(number := next(_numbers))
        return await self._readings.read(number, picture)

    def _demand(self, checked: say.Checked, asked: Asked, arrival: float) -> Demand:
        bucket, rows = checked.bucket, checked.rows
        deadline = None if asked.deadline_ms is None else arrival + asked.deadline_ms / 1000
        due = due_by(arrival, self._costs.alone(bucket, rows), deadline)
        return Demand(checked.number, bucket, rows, due, deadline)

    def _ticket(self, demand: Demand, asked: Asked, span: Span, client: str, keep: bool) -> Ticket:
        id, number = self._name + secrets.token_hex(16), demand.id
        ticket = Ticket(id, asked, client, _predicted(span), lambda _: self._cancelled(number))
        ticket.steps = len(demand.rows)
        ticket.alone_seconds = self._costs.alone_of(demand)
        self.picture_ms = 1000 * ticket.alone_seconds
        self.tickets[number] = ticket
        if keep:
            self._shelf.add(ticket)
        self._idle.clear()
        self._metrics.accepted(ticket)
        ticket.tell_place(self._place(demand))
        return ticket

    def _begin_beside(self, *numbers: int) -> None:
        """Codecs are at these pictures from now on."""
        if not self._beside:
            self._silent_since = time.monotonic()
        self._beside.update(numbers)

    def _end_beside(self, number: int) -> None:
        self._silent_since = time.monotonic()
        self._beside.discard(number)

    # What the device does.

    def _advance(self) -> None:
        """If the device has nothing to do, tell it what is next."""
        if self._doing is not None or self._over is not None:
            return
        now = time.monotonic()
        while (action := self.dispatcher.next(now)) is not None:
            if isinstance(action, Encode) and (action.picture.demand.deadline or math.inf) < now:
                self.dispatcher.failed()
                self._fail(action.picture.demand.id, refusals.too_late())
                continue
            order = self._order(action)
            self._doing = order, action, now
            self.worker.send(order)
            if isinstance(action, Encode):
                self._begun(action.picture.demand.id, now)
            return

    def _order(self, action: Action) -> say.Do:
        if isinstance(action, Step):
            numbers = tuple(each.demand.id for each in action.pictures)
            shown = (each for each in action.pictures if _is_shown(self.tickets[each.demand.id], each.at + 1))
            return say.Do("step", numbers, tuple(each.demand.id for each in shown))
        return say.Do("encode" if isinstance(action, Encode) else "decode", (action.picture.demand.id,))

    def _begun(self, number: int, now: float) -> None:
        ticket = self.tickets[number]
        ticket.state, ticket.place, ticket.began = State.RUNNING, 0, time.time()
        ticket.tell_step()

    def _ran(self, message: say.Ran) -> None:
        assert self._doing is not None
        order, action, _ = self._doing
        self._doing = None
        self.dispatcher.ran(message.seconds)
        self._advance()  # the device first, then those who listen
        if isinstance(action, Decode) and action.picture.demand.id in self.tickets:
            self._begin_beside(action.picture.demand.id)
        rows = action.rows if isinstance(action, Step) else 1
        self._metrics.ran(order.kind, rows, message.seconds)
        if order.kind == "step":
            for number in order.numbers:
                if (ticket := self.tickets.get(number)) is not None:
                    ticket.step += 1
                    ticket.tell_step()

    def _broke(self, message: say.Broke) -> None:
        number = message.number
        if message.was_done:
            self._doing = None
            self.dispatcher.failed()
        else:
            self._end_beside(number)
        if self._readings.broke(number, message.problem):
            return
        if number in self._checks:
            if self._checks[number].done():  # others of its request are still looked at
                self._prepared[number] = message.problem
            else:
                self._checks[number].set_exception(message.problem)
            return
        too_many = message.problem.status == 507 and number in self.dispatcher
        bucket = self.dispatcher.progress(number).demand.bucket if too_many else None
        self._fail(number, message.problem)
        if bucket is not None:  # as many as are left had room
            self.dispatcher.limit(bucket, max(1, self.dispatcher.inside(bucket)))
        self._advance()

    def _lost_places(self, message: say.LostPlaces) -> None:
        """Pictures begin again: a step of several was too much for the device, or weights were changed."""
        self._doing = None
        self.dispatcher.failed()
        for number in message.numbers:
            if number not in self.dispatcher:
                continue
            old = self.dispatcher.progress(number).demand
            self.dispatcher.remove(number)
            bucket, rows = message.demands[number]
            if message.slots is not None:
                self.dispatcher.limit(bucket, message.slots)
            self.dispatcher.add(Demand(number, bucket, rows, old.due, old.deadline))
            self.tickets[number].step = 0
        self._advance()

    def _made(self, message: say.Made) -> None:
        self._end_beside(message.number)
        ticket = self.tickets.get(message.number)
        if ticket is not None:
            times = {"queue_ms": 1000 * ((ticket.began or ticket.created) - ticket.created), **message.result.times}
            ticket.result = replace(message.result, times=times)
            self._end(message.number, State.DONE)

    def heard(self, message: say.FromWorker) -> None:
        """What the worker says."""
        match message:
            case say.Ran():
                self._ran(message)
            case say.Checked(number):
                self._silent_since = time.monotonic()
                if number in self._checks and not self._checks[number].done():
                    self._checks[number].set_result(message)
            case say.Found():
                self._end_beside(message.number)
                self._readings.found(message)
            case say.Prepared(number):
                self._end_beside(number)
                if number in self.dispatcher:
                    self.dispatcher.ready(number)
                    self._advance()
                elif number in self._checks:
                    self._prepared[number] = None
            case say.Broke():
                self._broke(message)
            case say.LostPlaces():
                self._lost_places(message)
            case say.Preview(number, step, picture):
                if (ticket := self.tickets.get(number)) is not None:
                    ticket.previews += 1
                    shown = {"index": ticket.previews - 1, "step": step, "of": ticket.steps}
                    ticket.tell("preview", shown, picture)
            case say.Made():
                self._made(message)
            case say.State():
                self.state = message
            case _:
                raise AssertionError(message)

    # How tickets end.

    def _cancelled(self, number: int) -> None:
        if number in self.tickets:
            self.tickets[number].problem = Problem(499, "cancelled", "The picture was cancelled.")
            self._forget(number)
            self._end(number, State.CANCELLED)

    def _fail(self, number: int, problem: Problem) -> None:
        if number in self.tickets:
            self.tickets[number].problem = problem
            self._forget(number)
            self._end(number, State.FAILED)

    def _forget(self, number: int) -> None:
        """A picture is nobody's any more: neither the dispatcher nor the worker keep anything of it."""
        self._prepared.pop(number, None)
        self._beside.discard(number)
        if number in self.dispatcher:
            self.dispatcher.remove(number)
        if self._over is None:
            self.worker.send(say.Drop(number))

    def _end(self, number: int, state: State) -> None:
        ticket = self.tickets.pop(number)
        ticket.state, ticket.ended = state, time.time()
        ticket.asked = replace(ticket.asked, image=None, mask=None, style=None)
        problem = {} if ticket.problem is None else {**ticket.problem.body["error"], "status": ticket.problem.status}
        ticket.tell("done" if state is State.DONE else "cancelled" if state is State.CANCELLED else "failed", problem)
        self._metrics.ended(ticket)
        if not self.tickets:
            self._idle.set()

    def end(self, problem: Problem) -> None:
        """The worker is gone, or has to go: what is under way has this problem."""
        self._over = problem
        for number in tuple(self.tickets):
            self._fail(number, problem)
        for future in self._checks.values():
            if not future.done():
                future.set_exception(replace(problem))
        self._readings.end(problem)
        self._beside.clear()

    async def finish(self) -> None:
        """Return once nothing is under way. Nothing more must be submitted."""
        while self.tickets or self._checks or self._readings:
            await (self._idle.wait() if self.tickets else asyncio.sleep(0.01))

    # What there is to know.

    def stuck_for(self, now: float) -> tuple[float, float]:
        """Seconds for which the device has been at one thing, or else no codec has finished; and what was expected."""
        if self._doing is None:
            return (now - self._silent_since, _CODEC_SECONDS) if self._beside else (0.0, 0.0)
        _, action, since = self._doing
        if isinstance(action, Step):
            return now - since, self._costs.step(action.pictures[0].demand.bucket, action.rows)
        stage: say.Stage = "encode" if isinstance(action, Encode) else "decode"
        return now - since, self._costs.stage(action.picture.demand.bucket, stage)

    @property
    def running(self) -> int:
        """Pictures that have begun."""
        return sum(ticket.state is State.RUNNING for ticket in self.tickets.values())

    @property
    def work_ms(self) -> float:
        """Milliseconds that all that is under way still wants, one picture after another."""
        left = (each.alone_seconds * (1 - each.step / max(each.steps, 1)) for each in self.tickets.values())
        return 1000 * sum(left)

    def backlog(self, now: float) -> float:
        """Seconds from `now` (Unix) until all that is under way is expected to be done, as it was predicted last."""
        return max(0.0, max((ticket.prediction.end for ticket in self.tickets.values()), default=now) - now)

    def _place(self, demand: Demand) -> int:
        """How many of those that wait are before it."""
        waiting = (number for number, ticket in self.tickets.items() if ticket.state is State.QUEUED)
        others = (self.dispatcher.progress(number).demand for number in waiting)
        return sum((other.due, other.id) < (demand.due, demand.id) for other in others)

    def predict_again(self) -> None:
        """What has changed since pictures were accepted: who waits is told his place."""
        if not self.tickets:
            return
        spans = self.dispatcher.forecast(time.monotonic())
        for number, ticket in self.tickets.items():
            if number in spans:
                ticket.prediction = _predicted(spans[number])
                if ticket.state is State.QUEUED:
                    ticket.tell_place(self._place(self.dispatcher.progress(number).demand))


def _predicted(span: Span) -> Prediction:
    """In Unix seconds."""
    offset = time.time() - time.monotonic()
    return Prediction(span.start + offset, span.end + offset)


def _is_shown(ticket: Ticket, step: int) -> bool:
    """Whether a client wants to see a picture after this step: as many as it said, spread evenly, never the last."""
    of, shown = ticket.steps, ticket.asked.previews
    return step < of and any(step == max(1, of * (place + 1) // (shown + 1)) for place in range(min(shown, of)))
