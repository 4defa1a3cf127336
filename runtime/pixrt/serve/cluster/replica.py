"""A replica: the service and its application as one server has them, called by the gate. Must not import numpy."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from starlette.types import Message

from pixrt.serve import logs
from pixrt.serve.app import make_app, warm_up
from pixrt.serve.cluster.calls import DESK, Call, Elsewhere, KeptJob, Said
from pixrt.serve.cluster.desk import desk
from pixrt.serve.cluster.scaling import WORK
from pixrt.serve.interfaces.jobs import describe
from pixrt.serve.logs import tell
from pixrt.serve.metrics import Metrics, text_of
from pixrt.serve.service import Service
from pixrt.serve.settings import Settings
from pixrt.serve.tickets import Ticket

_AGAIN_SECONDS = 0.5


class Replica:
    """See the module. Ray makes it, asks it for its load and its health, and ends it when it has no request left."""

    async def __init__(self, settings: Settings, version: str) -> None:  # type: ignore[misc]  # Ray awaits it
        """Return once it takes pictures. `version` is told from another one's by Ray. Raises PixrtError."""
        self.name = serve.get_replica_context().replica_id.unique_id
        logs.configure(settings.options.log_format, logging.INFO)
        options = settings.options
        self._options, self._metrics = options, Metrics()
        self._service = Service(settings, self._metrics, name=self.name)
        self._app = make_app(self._service)
        self._desk = desk(DESK, options.result_mib << 20, options.result_seconds)
        await warm_up(self._app)
        await self._service.start()
        await self._desk.here.remote(self.name)
        tell("replica", {"name": self.name, "version": version})

    async def answer(self, call: Call) -> AsyncIterator[Said]:
        """What the application sends in answer to a call, as it comes. If nobody listens any more, it is told so."""
        if call.replica not in ("", self.name):
            yield Elsewhere()
            return
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        left = asyncio.Event()
        body: list[bytes] = [call.body]

        async def receive() -> Message:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await self._app(call.scope, receive, sent.put)
            except Exception as error:  # the application has answered by then, or cannot
                tell("failed", {"id": call.scope["state"]["request_id"]}, level=logging.ERROR, error=error)
            finally:
                await sent.put(None)

        task = asyncio.create_task(run())
        try:
            message: Message | None = {}
            while message is not None:
                messages = []
                message = await sent.get()
                while message is not None:
                    messages.append(message)
                    if sent.empty():
                        break
                    message = sent.get_nowait()
                if messages:
                    yield messages
        finally:
            left.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def scrape(self) -> tuple[str, str]:
        """Its name and its metrics, as Prometheus reads them."""
        return self.name, text_of(self._metrics)

    async def check_health(self) -> None:
        """Ray asks now and then, and ends a replica that raises: one whose service has given up."""
        self._service.check_alive()
        await self._desk.here.remote(self.name)

    def record_routing_stats(self) -> dict[str, Any]:
        """For the router: seconds of predicted work, what one more picture may take, and which LoRAs are open."""
        load = self._service.load
        seconds, count = load.backlog_seconds, load.queued + load.running
        return {
            "at": time.time(),
            "work_s": seconds,
            "picture_s": seconds / count if count else self._service.alone_seconds,
            "loras": self._service.open_loras,
        }

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For the autoscaler."""
        return {WORK: 1000 * self._service.load.backlog_seconds}

    async def __del__(self) -> None:
        """Nobody sends requests any more. Jobs are finished, and left at the desk; then the service ends."""
        if not hasattr(self, "_service"):
            return
        draining = asyncio.create_task(self._service.drain())
        try:
            async with asyncio.timeout(self._options.drain_seconds):
                while not draining.done():
                    await self._leave()
                    await asyncio.wait([draining], timeout=_AGAIN_SECONDS)
        except TimeoutError:
            tell("what is not finished fails now", level=logging.WARNING)
        await self._service.close()
        await self._leave()
        await self._desk.gone.remote(self.name)

    async def _leave(self) -> None:
        jobs = {ticket.id: self._kept(ticket) for ticket in self._service.kept}
        if jobs:
            await self._desk.leave.remote(jobs)

    def _kept(self, ticket: Ticket) -> KeptJob:
        described = describe(ticket, self._options.result_seconds).model_dump(mode="json")
        if ticket.result is None:
            return KeptJob(ticket.client, described, problem=ticket.problem)
        return KeptJob(ticket.client, described, ticket.result.media_type, ticket.result.data)
