"""The service: what accepts pictures while there is a worker, and has a new one whenever the last one has died.

Must not import numpy or Pillow.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.dispatcher import Rules
from pixrt.errors import PixrtError
from pixrt.options.marking import MarkingOptions
from pixrt.serve import messages as say
from pixrt.serve.logs import tell
from pixrt.serve.memory import limit_bytes, resident_bytes
from pixrt.serve.metrics import CacheLoad, Load, Metrics
from pixrt.serve.problems import Problem
from pixrt.serve.refusals import whole_seconds
from pixrt.serve.settings import Settings
from pixrt.serve.shelf import Shelf
from pixrt.serve.shift import Shift
from pixrt.serve.supervisor import WorkerProcess
from pixrt.serve.tickets import Asked, Ticket

_POOLS = 4  # working sizes with pictures on their way at once
_TICK_SECONDS = 0.5
_LOAD_SECONDS = 900.0  # in which a worker must have opened its bundle
_SLOWER = 10.0  # a call that takes so many times longer than expected is stuck, if it takes longer than allowed
_BACK_OFF = (0.0, 1.0, 5.0, 15.0, 30.0)  # seconds before the next start of a worker that was not ready
_FRESH_SECONDS = 0.1


class Service:
    """See the module. `start` it, and `close` it in the end. On one event loop.

    Of several services each has a `name`, with which the ids of its tickets begin.
    """

    def __init__(self, settings: Settings, metrics: Metrics, name: str = "") -> None:
        self.options = settings.options
        self.metrics = metrics
        self.model: say.Model | None = None
        self.is_draining = False
        self._name = name
        self._setup = _setup(settings)
        self._slots = settings.session.max_batch
        self._costs = Costs()
        self._shelf = Shelf(self.options.result_seconds, self.options.result_mib << 20)
        self._shift: Shift | None = None
        self._worker: WorkerProcess | None = None
        self._is_closed = False
        self._ends_because = "died"
        self._wait = (0.0, 1)  # when it was asked for last, and the answer
        self._tasks: list[asyncio.Task[None]] = []
        metrics.watch(self._load)

    @property
    def is_ready(self) -> bool:
        """Whether pictures are accepted, if there is room."""
        return self._shift is not None and not self.is_draining and not self._is_closed

    @property
    def why_not_ready(self) -> str:
        """The reason in words; "" if it is ready."""
        if self.is_draining or self._is_closed:
            return "the server is shutting down"
        if self._shift is None:
            return "the model is being loaded" if self.model is None else "the worker is being started again"
        return ""

    @property
    def free(self) -> int:
        """Seats that are left."""
        return 0 if self._shift is None else self._shift.admission.free

    @property
    def is_full(self) -> bool:
        """Whether no seat is left, though there is a worker."""
        return self._shift is not None and self.free == 0

    @property
    def retry_after(self) -> int:
        """Seconds until there is expected to be room, or a worker."""
        if self._shift is None:
            return math.ceil(self.model.load_seconds) + 1 if self.model else 5
        now = time.monotonic()
        if now - self._wait[0] > _FRESH_SECONDS:  # many are refused at once
            self._wait = now, whole_seconds(self._shift.admission.wait(1, now))
        return self._wait[1]

    @property
    def loras(self) -> tuple[str, ...]:
        """Names of LoRAs that requests may give."""
        return self.model.loras if self.model else ()

    async def submit(self, asked: Sequence[Asked], *, client: str, keep: bool = False) -> list[Ticket]:
        """Accept pictures, all or none; with `keep` their tickets can be found after their end.

        Seats are taken before anything is waited for. Raises Problem: 429 if there are too few seats, or deadlines
        would be met later; 504 for a deadline that even an idle device would miss; 503 if there is no worker; and what
        is wrong with the pictures or their parameters.
        """
        try:
            if self._shift is None or not self.is_ready:
                raise Problem(503, "not_ready", f"Not now: {self.why_not_ready}.", retry_after=self.retry_after)
            return await self._shift.submit(asked, client, keep)
        except Problem as problem:
            self.metrics.refused(problem.code, len(asked))
            raise

    async def read(self, picture: bytes) -> Mapping[str, Any]:
        """How a picture was made, as `read_parameters` finds it in the file's bytes. It takes no seat.

        Raises Problem: 400 if it does not say, what else is wrong with the picture, 429 if many are looked at, 503 if
        there is no worker.
        """
        if self._shift is None or not self.is_ready:
            raise Problem(503, "not_ready", f"Not now: {self.why_not_ready}.", retry_after=self.retry_after)
        return await self._shift.read(picture)

    def find(self, id: str, client: str) -> Ticket:
        """A client's ticket. Raises Problem 404 for one that there is not, any more, or is another's."""
        return self._shelf.find(id, client)

    def tickets(self, client: str) -> list[Ticket]:
        """A client's that are kept, oldest first."""
        return self._shelf.of(client)

    @property
    def work_ms(self) -> float:
        """Milliseconds of the device that all accepted pictures still want, one after another."""
        return 0.0 if self._shift is None else self._shift.work_ms

    @property
    def picture_ms(self) -> float:
        """Milliseconds of the device that the picture accepted last wants; 0 before there was one."""
        return 0.0 if self._shift is None else self._shift.picture_ms

    @property
    def open_loras(self) -> tuple[Any, ...]:
        """Sets of LoRAs that the worker has open."""
        return () if self._shift is None else self._shift.state.variants

    def kept(self) -> list[Ticket]:
        """All tickets that are kept, of every client."""
        return list(self._shelf)

    def keep(self, ticket: Ticket) -> None:
        """Keep a ticket that another service has ended."""
        self._shelf.add(ticket)

    def forget(self, ticket: Ticket) -> None:
        """Keep a ticket that has ended no longer."""
        self._shelf.remove(ticket)

    async def start(self) -> None:
        """Return once a worker is warm. Raises PixrtError if the bundle cannot be used."""
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._keep_worker(first)), asyncio.create_task(self._tick())]
        await first

    async def _keep_worker(self, first: "asyncio.Future[None]") -> None:
        """Start a worker whenever there is none; the first one must become ready."""
        failures = itertools.count(1)
        while not self._is_closed:
            word = await self._one_worker(first)
            if isinstance(word, say.Ready):
                failures, delay = itertools.count(1), 0.0
            else:
                delay = _BACK_OFF[min(next(failures), len(_BACK_OFF) - 1)]
            if not first.done():
                first.set_exception(_unusable(word))
                return
            if not self._is_closed:
                reason, self._ends_because = self._ends_because, "died"
                self.metrics.restarted(reason)
                tell("the worker is started again", {"because": reason, "after_s": delay}, level=logging.WARNING)
                await asyncio.sleep(delay)

    async def _one_worker(self, first: "asyncio.Future[None]") -> object:
        """A worker from its start to its end; the first thing that it said."""
        began = time.monotonic()
        try:
            self._worker = worker = await WorkerProcess.start(self._setup)
        except OSError as error:  # no process, or no descriptor, is to be had; later there may be
            tell("no worker can be started", level=logging.ERROR, error=error)
            return None
        word = await self._first_word(worker)
        if isinstance(word, say.Ready):
            self.model = replace(word.model, load_seconds=time.monotonic() - began, created=int(time.time()))
            self._costs.measured(word.bucket, word.steps, word.stages)
            await self._work(worker, first)
        await worker.end()
        return word

    async def _first_word(self, worker: WorkerProcess) -> object:
        try:
            return await asyncio.wait_for(worker.receive(), _LOAD_SECONDS)
        except Exception as error:  # it takes too long, or says what nobody understands
            tell("the worker did not become ready", level=logging.ERROR, error=error)
            worker.kill()
            return None

    async def _work(self, worker: WorkerProcess, first: "asyncio.Future[None]") -> None:
        """A worker's shift, until it has gone."""
        rules = Rules(buckets=_POOLS, variants=self.options.max_loras)
        seats = self._slots + self.options.queue
        self._shift = shift = Shift(worker, self._costs, rules, seats, self.metrics, self._shelf, self._name)
        if not first.done():
            first.set_result(None)
        try:
            while (message := await worker.receive()) is not None:
                shift.heard(message)
        except Exception as error:  # a fault of ours, or a worker that says what it should not: a new one may do better
            tell("the worker said what nobody understands", level=logging.ERROR, error=error)
            worker.kill()
        finally:
            self._shift = None
            shift.end(self._lost())

    async def _tick(self) -> None:
        """Now and then: what is stuck is ended, what is old is let go, who waits is told."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                self._look_after()
            except Exception as error:  # a fault of ours; the next time it may go well
                tell("the service cannot look after itself", level=logging.ERROR, error=error)

    def _look_after(self) -> None:
        self._shelf.tidy(time.time())
        if self._shift is not None:
            seconds, expected = self._shift.stuck_for(time.monotonic())
            if seconds > max(self.options.stuck_seconds, _SLOWER * expected):
                self._ends_because = "stuck"
                self._shift.worker.kill()
            self._shift.predict_again()

    async def drain(self) -> None:
        """Accept nothing more, and return once all that was accepted has ended."""
        self.is_draining = True
        if self._shift is not None:
            await self._shift.finish()

    async def close(self) -> None:
        """End the worker; what has not ended fails, and may be asked for again elsewhere."""
        if self._is_closed:
            return
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._worker is not None:
            await self._worker.end()

    def _lost(self) -> Problem:
        message = "The process that makes pictures has ended. Ask again."
        return Problem(503, "worker_lost", message, retry_after=self.retry_after)

    def _load(self) -> Load:
        """What is so now."""
        shift = self._shift
        if shift is None:
            seats = self._slots + self.options.queue
            return Load(queued=0, running=0, slots=self._slots, seats=seats, **self._memory())
        running = shift.running
        return Load(
            queued=len(shift.tickets) - running,
            running=running,
            slots=self._slots,
            seats=shift.admission.seats,
            row_cap=shift.dispatcher.row_caps,
            caches={
                name: CacheLoad(hits=kept.hits, misses=kept.misses, bytes=kept.bytes, limit_bytes=kept.limit)
                for name, kept in shift.state.caches.items()
            },
            device_bytes=shift.state.device_bytes,
            results=len(self._shelf),
            result_bytes=self._shelf.bytes,
            is_ready=self.is_ready,
            backlog_seconds=shift.backlog(time.time()),
            **self._memory(),
        )

    def _memory(self) -> dict[str, Any]:
        worker = 0 if self._worker is None else resident_bytes(self._worker.pid)
        return {
            "memory_bytes": {"front": resident_bytes(), "worker": worker},
            "memory_limit_bytes": limit_bytes(),
        }


def _setup(settings: Settings) -> say.Setup:
    options = settings.options
    return say.Setup(
        bundle=settings.bundle,
        session=settings.session,
        slots=settings.session.max_batch,
        most_rows=options.max_rows,
        lora_folder=None if options.lora_folder is None else str(options.lora_folder),
        embedding_folder=None if options.embedding_folder is None else str(options.embedding_folder),
        variants=options.max_loras,
        log_format=options.log_format,
        marking=MarkingOptions(
            mark=options.mark, c2pa_cert=options.c2pa_cert, c2pa_key=options.c2pa_key, watermark=options.watermark
        ),
    )


def _unusable(word: object) -> PixrtError:
    if not isinstance(word, say.Unusable):
        return PixrtError("the worker ended before it was ready", remedy="Its last words are above")
    error = PixrtError(word.problem, remedy=word.remedy)
    error.exit_code = word.code
    return error
