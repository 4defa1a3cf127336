"""The service: pictures accepted, followed through the worker, and told to those who wait. On one event loop.

It joins three things: tickets (what clients see), the dispatcher (what is next), and the worker (who does it). Must not
import numpy or Pillow.
"""

import asyncio
import itertools
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from pixrt.dispatch.admission import Admission, Refusal
from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Demand, due_by
from pixrt.dispatch.dispatcher import Dispatcher, Rules, Span
from pixrt.dispatch.lane import Action, Encode, Step
from pixrt.errors import PixrtError
from pixrt.options.marking import MarkingOptions
from pixrt.serve import messages as say
from pixrt.serve.metrics import CacheLoad, Load, Metrics
from pixrt.serve.problems import Problem
from pixrt.serve.settings import Settings
from pixrt.serve.shelf import Shelf
from pixrt.serve.supervisor import WorkerProcess
from pixrt.serve.tickets import Asked, Prediction, State, Ticket

_POOLS = 4  # working sizes with pictures on their way at once
_TICK_SECONDS = 0.5
_LOAD_PATIENCE = 900.0  # seconds in which a worker must have opened its bundle
_SLOWER = 10.0  # what takes so many times longer than expected is stuck, if it takes longer than allowed
_BACK_OFF = (0.0, 0.0, 1.0, 5.0, 15.0, 30.0)  # seconds between starts of a worker that is never ready


class Service:
    """See the module. `start` it, and `close` it in the end."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.options = settings.options
        self.metrics = metrics
        self.model: say.Model | None = None
        self.is_draining = False
        self._setup = _setup(settings)
        self._slots = settings.session.max_batch
        self._costs = Costs()
        self._rules = Rules(buckets=_POOLS, variants=settings.options.max_loras)
        self._shelf = Shelf(self.options.result_seconds, self.options.result_mib << 20)
        self._numbers = itertools.count(1)
        self._worker: WorkerProcess | None = None
        self._is_warm = False
        self._is_closed = False
        self._ends_because = "died"
        self._state = say.State({}, {}, ())
        self._tickets: dict[int, Ticket] = {}
        self._begin_anew()
        self._idle = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        metrics.watch(self._load)

    def _begin_anew(self) -> None:
        """Nothing is under way."""
        self._dispatcher = Dispatcher(self._costs, self._rules)
        self._admission = Admission(self._dispatcher, self._slots + self.options.queue)
        self._checks: dict[int, asyncio.Future[say.Checked]] = {}
        self._prepared: set[int] = set()
        self._doing: tuple[say.Do, Action, float] | None = None
        self._wait: tuple[float, int] = (0.0, 1)

    # What clients ask.

    @property
    def is_ready(self) -> bool:
        """Whether pictures are accepted, if there is room."""
        return self._is_warm and not self.is_draining and not self._is_closed

    @property
    def why_not_ready(self) -> str:
        """The reason in words; "" if it is ready."""
        if self.is_draining or self._is_closed:
            return "the server is shutting down"
        if not self._is_warm:
            return "the model is being loaded" if self.model is None else "the worker is being started again"
        return ""

    @property
    def is_full(self) -> bool:
        """Whether no seat is left."""
        return self._is_warm and self._admission.free == 0

    @property
    def retry_after(self) -> int:
        """Seconds until there is expected to be room, or a worker."""
        if not self._is_warm:
            return math.ceil(self.model.load_seconds) if self.model else 5
        now = time.monotonic()
        if now - self._wait[0] > 0.1:  # many are refused at once
            self._wait = now, _whole_seconds(self._admission.wait(1, now))
        return self._wait[1]

    @property
    def loras(self) -> tuple[str, ...]:
        """Names of LoRAs that requests may give."""
        return self.model.loras if self.model else ()

    async def submit(self, asked: Sequence[Asked], *, client: str, keep: bool = False) -> list[Ticket]:
        """Accept pictures, all or none; with `keep` their tickets can be found after their end.

        Seats are taken before anything is waited for. Raises Problem: 429 if there are too few seats, or deadlines
        would be met later; 504 for a deadline that even an idle device would miss; 503 if the worker is not there; and
        what is wrong with the pictures or their parameters.
        """
        try:
            return await self._submit(asked, client, keep)
        except Problem as problem:
            self.metrics.refused(problem.code, len(asked))
            raise

    async def _submit(self, asked: Sequence[Asked], client: str, keep: bool) -> list[Ticket]:
        if not self.is_ready:
            raise Problem(503, "not_ready", f"Not now: {self.why_not_ready}.", retry_after=self.retry_after)
        arrival, admission, count = time.monotonic(), self._admission, len(asked)
        refusal = admission.hold(count, arrival)
        if refusal is not None:
            raise self._refused(refusal, count)
        numbers = [next(self._numbers) for _ in asked]
        is_held = True
        try:
            checked = await self._check(numbers, asked)
            if admission is not self._admission:
                raise self._gone()
            demands = [self._demand(each, asked[place], arrival) for place, each in enumerate(checked)]
            is_held = False
            spans = admission.admit(demands, time.monotonic(), ready=False)
            if isinstance(spans, Refusal):
                raise self._refused(spans, count)
        except BaseException:
            if is_held:
                admission.release(count)
            for number in numbers:
                self._forget(number)
            raise
        tickets = [self._ticket(*each, client, keep) for each in zip(demands, asked, spans, strict=True)]
        for number in self._prepared.intersection(numbers):
            self._dispatcher.ready(number)
        self._advance()
        return tickets

    async def _check(self, numbers: Sequence[int], asked: Sequence[Asked]) -> list[say.Checked]:
        """Have the worker look at pictures. Raises the Problem of the first that has one."""
        assert self._worker is not None
        for number, each in zip(numbers, asked, strict=True):
            self._checks[number] = asyncio.get_running_loop().create_future()
            self._worker.send(say.Check(number, each))
        waiting = [self._checks[number] for number in numbers]
        try:
            return list(await asyncio.gather(*waiting))
        finally:
            for number, future in zip(numbers, waiting, strict=True):
                self._checks.pop(number, None)
                future.cancel()
                if future.done() and not future.cancelled():
                    future.exception()  # it was looked at

    def _demand(self, checked: say.Checked, asked: Asked, arrival: float) -> Demand:
        bucket, rows = checked.bucket, checked.rows
        deadline = None if asked.deadline_ms is None else arrival + asked.deadline_ms / 1000
        due = due_by(arrival, self._costs.alone(bucket, rows), deadline)
        return Demand(checked.number, bucket, rows, due, deadline)

    def _ticket(self, demand: Demand, asked: Asked, span: Span, client: str, keep: bool) -> Ticket:
        id, number = secrets.token_hex(16), demand.id
        ticket = Ticket(id, asked, client, _predicted(span), lambda _: self._cancelled(number))
        ticket.steps = len(demand.rows)
        self._tickets[number] = ticket
        if keep:
            self._shelf.add(ticket)
        self._idle.clear()
        self.metrics.accepted(ticket)
        self._tell_place(number, ticket, self._place(demand))
        return ticket

    def find(self, id: str, client: str) -> Ticket:
        """A client's ticket. Raises Problem 404 for one that there is not, any more, or is another's."""
        return self._shelf.find(id, client)

    def tickets(self, client: str) -> list[Ticket]:
        """A client's, oldest first."""
        return self._shelf.of(client)

    # What the device does.

    def _advance(self) -> None:
        """If the device has nothing to do, tell it what is next."""
        if self._doing is not None or self._worker is None or not self._is_warm:
            return
        now = time.monotonic()
        while (action := self._dispatcher.next(now)) is not None:
            if isinstance(action, Encode) and (action.picture.demand.deadline or math.inf) < now:
                self._dispatcher.failed()
                self._fail(action.picture.demand.id, _too_late())
                continue
            order = self._order(action)
            self._doing = order, action, now
            self._worker.send(order)
            if isinstance(action, Encode):
                self._begun(action.picture.demand.id, now)
            return

    def _order(self, action: Action) -> say.Do:
        if isinstance(action, Step):
            numbers = tuple(each.demand.id for each in action.pictures)
            shown = (each for each in action.pictures if _is_shown(self._tickets[each.demand.id], each.at + 1))
            return say.Do("step", numbers, tuple(each.demand.id for each in shown))
        return say.Do("encode" if isinstance(action, Encode) else "decode", (action.picture.demand.id,))

    def _begun(self, number: int, now: float) -> None:
        ticket = self._tickets[number]
        ticket.state, ticket.place, ticket.began = State.RUNNING, 0, time.time()
        self._tell_step(ticket)

    def _ran(self, message: say.Ran) -> None:
        assert self._doing is not None
        order, action, _ = self._doing
        self._doing = None
        self._dispatcher.ran(message.seconds)
        self._advance()  # the device first, then those who listen
        rows = action.rows if isinstance(action, Step) else 1
        self.metrics.ran(order.kind, rows, message.seconds)
        if order.kind == "step":
            for number in order.numbers:
                if (ticket := self._tickets.get(number)) is not None:
                    ticket.step += 1
                    self._tell_step(ticket)

    def _broke(self, message: say.Broke) -> None:
        number = message.number
        if message.was_done:
            self._doing = None
            self._dispatcher.failed()
        if number in self._checks:
            if not self._checks[number].done():
                self._checks[number].set_exception(message.problem)
            return
        if message.problem.status == 507 and number in self._dispatcher:
            bucket = self._dispatcher.progress(number).demand.bucket
            self._dispatcher.limit(bucket, max(1, self._dispatcher.inside(bucket) - 1))
        self._fail(number, message.problem)
        self._advance()

    def _lost_places(self, message: say.LostPlaces) -> None:
        """Pictures begin again: a step of several was too much for the device, or weights were changed."""
        self._doing = None
        self._dispatcher.failed()
        for number in message.numbers:
            if number not in self._dispatcher:
                continue
            old = self._dispatcher.progress(number).demand
            self._dispatcher.remove(number)
            bucket, rows = message.demands[number]
            if message.slots is not None:
                self._dispatcher.limit(bucket, message.slots)
            self._dispatcher.add(Demand(number, bucket, rows, old.due, old.deadline))
            self._tickets[number].step = 0
        self._advance()

    def _made(self, message: say.Made) -> None:
        ticket = self._tickets.get(message.number)
        if ticket is not None:
            times = {"queue_ms": 1000 * ((ticket.began or ticket.created) - ticket.created), **message.result.times}
            ticket.result = replace(message.result, times=times)
            self._end(message.number, State.DONE)

    def _heard(self, message: say.FromWorker) -> None:
        """What the worker says."""
        match message:
            case say.Ran():
                self._ran(message)
            case say.Checked(number):
                if number in self._checks and not self._checks[number].done():
                    self._checks[number].set_result(message)
            case say.Prepared(number):
                if number in self._dispatcher:
                    self._dispatcher.ready(number)
                    self._advance()
                elif number in self._checks:
                    self._prepared.add(number)
            case say.Broke():
                self._broke(message)
            case say.LostPlaces():
                self._lost_places(message)
            case say.Preview(number, step, picture):
                if (ticket := self._tickets.get(number)) is not None:
                    ticket.previews += 1
                    shown = {"index": ticket.previews - 1, "step": step, "of": ticket.steps}
                    ticket.tell("preview", shown, picture)
            case say.Made():
                self._made(message)
            case say.State():
                self._state = message
            case _:
                raise AssertionError(message)

    # How tickets end.

    def _cancelled(self, number: int) -> None:
        if number in self._tickets:
            self._tickets[number].problem = Problem(499, "cancelled", "The picture was cancelled.")
            self._forget(number)
            self._end(number, State.CANCELLED)

    def _fail(self, number: int, problem: Problem) -> None:
        if number in self._tickets:
            self._tickets[number].problem = problem
            self._forget(number)
            self._end(number, State.FAILED)

    def _forget(self, number: int) -> None:
        """A picture is nobody's any more: neither the dispatcher nor the worker keep anything of it."""
        self._prepared.discard(number)
        if number in self._dispatcher:
            self._dispatcher.remove(number)
        if self._worker is not None:
            self._worker.send(say.Drop(number))

    def _end(self, number: int, state: State) -> None:
        ticket = self._tickets.pop(number)
        self._prepared.discard(number)
        ticket.state, ticket.ended = state, time.time()
        ticket.asked = replace(ticket.asked, image=None, mask=None, style=None)
        problem = {} if ticket.problem is None else {**ticket.problem.body["error"], "status": ticket.problem.status}
        ticket.tell("done" if state is State.DONE else "cancelled" if state is State.CANCELLED else "failed", problem)
        self.metrics.ended(ticket)
        if not self._tickets:
            self._idle.set()

    # What those who wait are told.

    def _tell_step(self, ticket: Ticket) -> None:
        told = {"step": ticket.step, "of": ticket.steps, "predicted_end": ticket.prediction.end}
        ticket.tell("step", told)

    def _tell_place(self, number: int, ticket: Ticket, place: int) -> None:
        ticket.place = place
        prediction = ticket.prediction
        told = {"place": place, "predicted_start": prediction.start, "predicted_end": prediction.end}
        ticket.tell("queued", told)

    def _place(self, demand: Demand) -> int:
        """How many of those that wait are before it."""
        waiting = (number for number, ticket in self._tickets.items() if ticket.state is State.QUEUED)
        others = (self._dispatcher.progress(number).demand for number in waiting)
        return sum((other.due, other.id) < (demand.due, demand.id) for other in others)

    def _predict_again(self) -> None:
        """What has changed since pictures were accepted: who waits is told his place."""
        if not self._tickets:
            return
        spans = self._dispatcher.forecast(time.monotonic())
        for number, ticket in self._tickets.items():
            if number in spans:
                ticket.prediction = _predicted(spans[number])
                if ticket.state is State.QUEUED:
                    self._tell_place(number, ticket, self._place(self._dispatcher.progress(number).demand))

    # The worker's life, and the service's.

    async def start(self) -> None:
        """Return once the worker is warm. Raises PixrtError if the bundle cannot be used."""
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._keep_worker(first)), asyncio.create_task(self._tick())]
        await first

    async def _keep_worker(self, first: "asyncio.Future[None]") -> None:
        """Start a worker whenever there is none; the first one must become ready."""
        for failures in itertools.count():
            self._worker = await WorkerProcess.start(self._setup)
            ready = await self._first_word(self._worker)
            if isinstance(ready, say.Ready):
                self._warm(ready)
                if not first.done():
                    first.set_result(None)
                failures = 0
                while (message := await self._worker.receive()) is not None:
                    self._heard(message)
            worker, self._worker, self._is_warm = self._worker, None, False
            await worker.end()
            if self._is_closed:
                return
            if not first.done():
                first.set_exception(_unusable(ready))
                return
            reason, self._ends_because = self._ends_because, "died"
            self.metrics.restarted(reason)
            for number in tuple(self._tickets):
                self._fail(number, self._gone())
            for future in self._checks.values():
                if not future.done():
                    future.set_exception(self._gone())
            self._begin_anew()
            await asyncio.sleep(_BACK_OFF[min(failures, len(_BACK_OFF) - 1)])

    async def _first_word(self, worker: WorkerProcess) -> object:
        try:
            return await asyncio.wait_for(worker.receive(), _LOAD_PATIENCE)
        except TimeoutError:
            worker.kill()
            return None

    def _warm(self, ready: say.Ready) -> None:
        self.model = ready.model
        self._costs.measured(ready.bucket, ready.steps, ready.stages)
        self._is_warm = True

    async def _tick(self) -> None:
        """Now and then: what is stuck is ended, what is old is let go, who waits is told."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self._doing is not None and self._worker is not None:
                _, action, since = self._doing
                allowed = max(self.options.stuck_seconds, _SLOWER * self._expected(action))
                if time.monotonic() - since > allowed:
                    self._ends_because = "stuck"
                    self._worker.kill()
            self._shelf.tidy(time.time())
            self._predict_again()

    def _expected(self, action: Action) -> float:
        if isinstance(action, Step):
            return self._costs.step(action.pictures[0].demand.bucket, action.rows)
        return self._costs.stage(action.picture.demand.bucket, "encode" if isinstance(action, Encode) else "decode")

    async def drain(self) -> None:
        """Accept nothing more, and return once all that was accepted has ended."""
        self.is_draining = True
        while self._tickets or self._checks:
            if self._tickets:
                await self._idle.wait()
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End the worker; what has not ended fails, and may be asked for again elsewhere."""
        if self._is_closed:
            return
        self._is_closed, worker = True, self._worker
        for number in tuple(self._tickets):
            self._fail(number, self._gone())
        for task in self._tasks:
            task.cancel()
        if worker is not None:
            await worker.end()

    def _gone(self) -> Problem:
        seconds = math.ceil(self.model.load_seconds) + 1 if self.model else 5
        return Problem(503, "worker_lost", "The process that makes pictures has ended. Ask again.", retry_after=seconds)

    def _refused(self, refusal: Refusal, count: int) -> Problem:
        seats = self._slots + self.options.queue
        if refusal.reason == "full":
            if refusal.retry_after is None:
                message = f"{count} pictures are asked for together, and {seats} are taken on. Ask for fewer at once."
                return Problem(400, "too_many_pictures", message, "n")
            seconds = _whole_seconds(refusal.retry_after)
            message = f"All of {seats} seats are taken. Try again in {seconds} s."
            return Problem(429, "queue_full", message, retry_after=seconds)
        if refusal.retry_after is None:
            message = "The deadline is nearer than the picture takes. Give it more time, or take fewer steps."
            return Problem(504, "deadline_too_near", message, "deadline_ms")
        seconds = _whole_seconds(refusal.retry_after)
        whose = "its deadline" if refusal.reason == "late" else "the deadline of one that was accepted"
        message = f"The picture would be done after {whose}. Try again in {seconds} s, or give it more time."
        return Problem(429, "deadline_unreachable", message, "deadline_ms", retry_after=seconds)

    def _load(self) -> Load:
        """What is so now."""
        running = sum(ticket.state is State.RUNNING for ticket in self._tickets.values())
        return Load(
            queued=len(self._tickets) - running,
            running=running,
            slots=self._slots,
            seats=self._admission.seats,
            row_cap=self._dispatcher.row_caps,
            caches={
                name: CacheLoad(hits=kept.hits, misses=kept.misses, bytes=kept.bytes, limit_bytes=kept.limit)
                for name, kept in self._state.caches.items()
            },
            device_bytes=self._state.device_bytes,
            results=len(self._shelf),
            result_bytes=self._shelf.bytes,
            is_ready=self.is_ready,
        )


def _setup(settings: Settings) -> say.Setup:
    options = settings.options
    return say.Setup(
        bundle=settings.bundle,
        session=settings.session,
        slots=settings.session.max_batch,
        most_rows=options.max_rows,
        lora_folder=None if options.lora_folder is None else str(options.lora_folder),
        variants=options.max_loras,
        marking=MarkingOptions(
            mark=options.mark, c2pa_cert=options.c2pa_cert, c2pa_key=options.c2pa_key, watermark=options.watermark
        ),
    )


def _predicted(span: Span) -> Prediction:
    """In Unix seconds."""
    offset = time.time() - time.monotonic()
    return Prediction(span.start + offset, span.end + offset)


def _is_shown(ticket: Ticket, step: int) -> bool:
    """Whether a client wants to see a picture after this step: as many as it said, spread evenly, never the last."""
    of, shown = ticket.steps, ticket.asked.previews
    return step < of and any(step == max(1, of * (place + 1) // (shown + 1)) for place in range(min(shown, of)))


def _whole_seconds(seconds: float | None) -> int:
    return max(1, math.ceil(seconds or 0))


def _too_late() -> Problem:
    return Problem(504, "deadline_passed", "The deadline passed while the picture waited.", "deadline_ms")


def _unusable(word: object) -> PixrtError:
    if not isinstance(word, say.Unusable):
        return PixrtError("the worker ended before it was ready", remedy="Its last words are above")
    error = PixrtError(word.problem, remedy=word.remedy)
    error.exit_code = word.code
    return error
