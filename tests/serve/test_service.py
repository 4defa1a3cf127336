"""The service: a worker after the other, whatever becomes of them."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Self

import pytest

from pixrt.errors import PixrtError
from pixrt.options.serve import ServeOptions
from pixrt.options.session import SessionOptions
from pixrt.serve import messages as say
from pixrt.serve import service as module
from pixrt.serve.metrics import Metrics
from pixrt.serve.problems import Problem
from pixrt.serve.service import Service
from pixrt.serve.settings import Settings
from pixrt.serve.tickets import State
from serving import MODEL
from shifts import CLIENT, SLOTS, asks, bucket

READY = say.Ready(MODEL, bucket(), {3: 0.01}, {"encode": 0.01, "decode": 0.01})
GONE = None


class Process:
    """A worker process that does nothing but what tests say; `made` are all of them, in order."""

    pid = os.getpid()
    made: list[Self]
    starts: list[BaseException | None]  # what becomes of the next starts

    def __init__(self) -> None:
        self.said: asyncio.Queue[object] = asyncio.Queue()
        self.sent: list[Any] = []
        self.is_killed = self.has_ended = False

    @classmethod
    async def start(cls, setup: say.Setup) -> Self:
        assert setup.slots == SLOTS
        if cls.starts and (error := cls.starts.pop(0)) is not None:
            raise error
        cls.made.append(process := cls())
        return process

    def send(self, message: object) -> None:
        self.sent.append(message)

    async def receive(self) -> object:
        word = await self.said.get()
        if isinstance(word, BaseException):
            raise word
        return word

    def kill(self) -> None:
        self.is_killed = True
        self.said.put_nowait(GONE)

    async def end(self) -> None:
        self.has_ended = True


class Scene:
    """A service of such processes."""

    def __init__(self, **options: Any) -> None:
        session = SessionOptions(backend="null", max_batch=SLOTS)
        self.metrics = Metrics()
        self.service = Service(Settings(options=ServeOptions(queue=2, **options), session=session), self.metrics)

    async def started(self) -> Process:
        """The first worker, ready."""
        start = asyncio.create_task(self.service.start())
        worker = await self.worker(0)
        worker.said.put_nowait(READY)
        await start
        return worker

    async def worker(self, number: int) -> Process:
        """The one of this number, as soon as it is started."""
        await until(lambda: len(Process.made) > number)
        return Process.made[number]

    def restarts(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value("pixrt_worker_restarts_total", {"reason": reason})
        return value or 0.0


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.001)


def scene(test: Callable[[Scene], Awaitable[None]]) -> Callable[[pytest.MonkeyPatch], None]:
    """A test in a scene of its own, which is closed in the end."""

    @wraps(test)
    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "WorkerProcess", Process)
        monkeypatch.setattr(module, "_TICK_SECONDS", 0.01)
        monkeypatch.setattr(module, "_BACK_OFF", (0.0, 0.0, 0.0))
        Process.made, Process.starts = [], []

        async def played() -> None:
            made = Scene(stuck_seconds=1)
            try:
                await test(made)
            finally:
                await made.service.close()
            assert all(worker.has_ended for worker in Process.made)

        asyncio.run(played())

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for its argument
    return run


async def accepted(made: Scene, worker: Process, **said: Any) -> Any:
    task = asyncio.create_task(made.service.submit([asks()], client=CLIENT, **said))
    await until(lambda: any(isinstance(message, say.Check) for message in worker.sent))
    number = next(message.numbers[0] for message in worker.sent if isinstance(message, say.Check))
    worker.said.put_nowait(say.Checked(number, bucket(), (3, 3)))
    worker.said.put_nowait(say.Prepared(number))
    (ticket,) = await task
    return ticket


@scene
async def test_ready_when_the_worker_is(made: Scene) -> None:
    service = made.service
    assert (service.is_ready, service.model, service.loras) == (False, None, ())
    start = asyncio.create_task(service.start())
    worker = await made.worker(0)
    assert service.why_not_ready == "the model is being loaded"
    with pytest.raises(Problem) as raised:
        await service.submit([asks()], client=CLIENT)
    assert (raised.value.status, raised.value.code) == (503, "not_ready")
    assert raised.value.retry_after is not None
    worker.said.put_nowait(READY)
    await start
    assert (service.is_ready, service.why_not_ready, service.is_full) == (True, "", False)
    assert service.model is not None
    assert service.model.name == MODEL.name
    assert service.model.load_seconds < 20


@scene
async def test_a_bundle_that_cannot_be_used(made: Scene) -> None:
    start = asyncio.create_task(made.service.start())
    worker = await made.worker(0)
    worker.said.put_nowait(say.Unusable("it is altered", "Get it again", 4))
    with pytest.raises(PixrtError, match="it is altered") as raised:
        await start
    assert (raised.value.remedy, raised.value.exit_code) == ("Get it again", 4)
    assert len(Process.made) == 1


@pytest.mark.parametrize("word", [GONE, RuntimeError("what no one understands"), OSError()])
def test_a_first_worker_that_does_not_become_ready(word: object, monkeypatch: pytest.MonkeyPatch) -> None:
    @scene
    async def played(made: Scene) -> None:
        start = asyncio.create_task(made.service.start())
        (await made.worker(0)).said.put_nowait(word)
        with pytest.raises(PixrtError, match="ended before it was ready"):
            await start

    played(monkeypatch)


@scene
async def test_a_worker_that_dies_is_followed_by_another(made: Scene) -> None:
    worker = await made.started()
    ticket = await accepted(made, worker)
    worker.said.put_nowait(GONE)
    with pytest.raises(Problem) as raised:
        await ticket.wait()
    assert (raised.value.status, raised.value.code) == (503, "worker_lost")
    assert raised.value.retry_after is not None
    other = await made.worker(1)
    assert not made.service.is_ready
    assert made.service.why_not_ready == "the worker is being started again"
    other.said.put_nowait(READY)
    await until(lambda: made.service.is_ready)
    assert made.restarts("died") == 1
    assert (await accepted(made, other)).state is State.RUNNING


@scene
async def test_a_worker_that_says_what_nobody_understands_is_followed_by_another(made: Scene) -> None:
    worker = await made.started()
    worker.said.put_nowait("no message")
    other = await made.worker(1)
    assert worker.is_killed
    other.said.put_nowait(READY)
    await until(lambda: made.service.is_ready)


@scene
async def test_a_start_that_fails_is_tried_again(made: Scene) -> None:
    worker = await made.started()
    Process.starts = [OSError("no more processes"), None]
    worker.said.put_nowait(GONE)
    second = await made.worker(1)
    second.said.put_nowait(GONE)  # it does not become ready either
    third = await made.worker(2)
    third.said.put_nowait(READY)
    await until(lambda: made.service.is_ready)


@scene
async def test_a_worker_that_is_stuck_is_ended(made: Scene) -> None:
    worker = await made.started()
    ticket = await accepted(made, worker)
    await until(lambda: worker.is_killed)  # after stuck_seconds
    with pytest.raises(Problem, match="has ended"):
        await ticket.wait()
    await made.worker(1)
    assert made.restarts("stuck") == 1


@scene
async def test_a_fault_of_its_own_does_not_end_its_care(made: Scene) -> None:
    worker = await made.started()
    shift: Any = made.service._shift
    shift.predict_again = None
    ticket = await accepted(made, worker)
    with pytest.raises(Problem, match="has ended"):  # it is stuck, and that is seen all the same
        await ticket.wait()
    assert worker.is_killed


@scene
async def test_draining_waits_for_what_is_accepted(made: Scene) -> None:
    worker = await made.started()
    ticket = await accepted(made, worker)
    drained = asyncio.create_task(made.service.drain())
    await asyncio.sleep(0)
    assert (made.service.is_ready, made.service.why_not_ready) == (False, "the server is shutting down")
    with pytest.raises(Problem, match="shutting down"):
        await made.service.submit([asks()], client=CLIENT)
    assert not drained.done()
    ticket.cancel()
    await drained


@scene
async def test_closing_fails_what_has_not_ended(made: Scene) -> None:
    worker = await made.started()
    ticket = await accepted(made, worker, keep=True)
    await made.service.close()
    await made.service.close()
    assert (ticket.state, ticket.problem.status) == (State.FAILED, 503)
    assert made.service.find(ticket.id, CLIENT) is ticket
    assert len(Process.made) == 1


@scene
async def test_what_is_refused_is_counted(made: Scene) -> None:
    await made.started()
    with pytest.raises(Problem):
        await made.service.submit([asks()] * (SLOTS + 3), client=CLIENT)
    assert (
        made.metrics.registry.get_sample_value("pixrt_pictures_refused_total", {"code": "too_many_pictures"})
        == SLOTS + 3
    )


@scene
async def test_what_a_picture_says_is_asked_of_the_worker_that_there_is(made: Scene) -> None:
    with pytest.raises(Problem, match="being loaded"):
        await made.service.read(b"a picture")
    worker = await made.started()
    task = asyncio.create_task(made.service.read(b"a picture"))
    await until(lambda: any(isinstance(message, say.Read) for message in worker.sent))
    worker.said.put_nowait(say.Found(worker.sent[-1].number, {"pixrt": "0"}))
    assert await task == {"pixrt": "0"}
    task = asyncio.create_task(made.service.read(b"another"))
    await asyncio.sleep(0)
    worker.said.put_nowait(GONE)
    with pytest.raises(Problem) as caught:
        await task
    assert (caught.value.status, caught.value.retry_after is not None) == (503, True)
