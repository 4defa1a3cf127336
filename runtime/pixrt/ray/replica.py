"""A replica: the whole service of one device, its worker and its scheduler, as a deployment of Ray Serve."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import serve
from starlette.types import Message

from pixrt.errors import PixrtError
from pixrt.ray.asking import REPLICA, Asked, answer
from pixrt.ray.known import APPLICATION, DEPLOYMENT
from pixrt.ray.policy import WORK
from pixrt.serve import logs, telemetry
from pixrt.serve.app import make_app, warm_up
from pixrt.serve.logs import tell
from pixrt.serve.metrics import Metrics
from pixrt.serve.service import Service
from pixrt.serve.settings import Settings
from pixrt.serve.tickets import Ticket

REFUSAL = "pixrt cannot start: "
_HAND_OVER_SECONDS = 5.0


class Replica:
    """See the module. Doors ask it; Ray asks how it is, and ends it."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        """Return once the worker is warm. Raises RuntimeError: Ray passes on its text."""
        logs.configure(settings.options.log_format, logging.INFO)
        if settings.options.otel:
            telemetry.start()
        self.name = serve.get_replica_context().replica_id.unique_id
        self._service = Service(settings, Metrics(), f"{self.name}-")
        self._app = make_app(self._service)
        await warm_up(self._app)
        try:
            await self._service.start()
        except PixrtError as error:
            raise RuntimeError(refusal_of(error)) from None

    async def ask(self, asked: Asked) -> AsyncIterator[Message]:
        """Answer a request by the messages of ASGI. One that is meant for another replica is not answered at all."""
        if asked.to and asked.to != self.name:
            return
        async for message in answer(self._app, asked):
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (REPLICA, self.name.encode())]
                message = {**message, "headers": headers}
            yield message

    async def whole(self, asked: Asked) -> tuple[str, int, bytes]:
        """Answer a request that all replicas get: its own name, the status, and the body."""
        status, body = 0, b""
        async for message in answer(self._app, asked):
            status = message.get("status", status)
            body += message.get("body", b"")
        return self.name, status, body

    async def has(self, id: str) -> str:
        """Its own name if it keeps this ticket."""
        return self.name if any(ticket.id == id for ticket in self._service.kept()) else ""

    async def take_over(self, tickets: list[dict[str, Any]]) -> None:
        """Keep tickets of a replica that ends."""
        for said in tickets:
            self._service.keep(Ticket.taken_over(said))

    async def drain(self) -> None:
        """Take on nothing more, and return once all that was accepted has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._service.options.drain_seconds):
                await self._service.drain()

    async def record_routing_stats(self) -> Mapping[str, Any]:
        """What routers and doors choose by; Ray asks for it now and then."""
        service = self._service
        model = service.model
        return {
            "at": time.time(),
            "work_ms": service.work_ms,
            "picture_ms": service.picture_ms,
            "free": service.free,
            "is_ready": service.is_ready,
            "retry_after": service.retry_after,
            "loras": [sorted(name for name, _ in loras) for loras in service.open_loras if loras],
            "load_ms": 0.0 if model is None else 1000 * model.load_seconds,
        }

    async def record_autoscaling_stats(self) -> Mapping[str, float]:
        """What `pixrt.ray.policy` sums."""
        return {WORK: self._service.work_ms}

    async def __del__(self) -> None:
        """Ray ends it: what it has accepted is finished, and results that are kept go to another replica."""
        if not hasattr(self, "_service"):
            return
        await self.drain()
        kept = [ticket.hand_over() for ticket in self._service.kept() if ticket.state.is_end]
        if kept:
            await _hand_over(kept)
        await self._service.close()


def refusal_of(error: PixrtError) -> str:
    """An error as text that Ray passes on, for `pixrt.ray.deploying`."""
    said = {"problem": error.problem, "remedy": error.remedy, "code": error.exit_code}
    return f"{REFUSAL}{json.dumps(said)}"


async def _hand_over(kept: list[dict[str, Any]]) -> None:
    """Nobody takes them if no replica is left."""
    try:
        handle = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
        async with asyncio.timeout(_HAND_OVER_SECONDS):
            await handle.take_over.remote(kept)
    except Exception as error:  # Ray's, of many kinds
        tell("kept results are lost", {"results": len(kept)}, level=logging.WARNING, error=error)
