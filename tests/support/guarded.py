"""The fake service behind the real guard, as the network sees it: over ASGI, and over a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from pixrt.serve.app import make_app
from pixrt.serve.guard.keys import Keys
from pixrt.serve.guard.protect import protect
from pixrt.serve.metrics import Metrics
from pixrt.serve.server import make_server
from pixrt.serve.service import Service
from pixrt.serve.tickets import Asked, Ticket
from serving import FakeService


@dataclass
class GuardedService(FakeService):
    """With what the guard and the server want of a service."""

    metrics: Metrics = field(default_factory=Metrics)
    seats: int = 1000

    @property
    def free(self) -> int:
        """Seats that are left."""
        return 0 if self.is_full else self.seats - sum(not ticket.state.is_end for ticket in self.accepted)

    async def submit(self, asked: Sequence[Asked], *, client: str, keep: bool = False) -> list[Ticket]:
        """As the fake does; those who count are told."""
        tickets = await super().submit(asked, client=client, keep=keep)
        for ticket in tickets:
            self.metrics.accepted(ticket)
        return tickets

    async def start(self) -> None:
        """It is ready from the beginning."""

    async def drain(self) -> None:
        """Wait until what is accepted has ended."""
        self.is_draining, self.is_ready = True, False
        for ticket in self.accepted:
            async for _ in ticket.follow():
                pass

    async def close(self) -> None:
        """It holds nothing."""

    @property
    def real(self) -> Service:
        """As what it stands for."""
        return cast(Service, self)


def guarded(service: GuardedService, keys: Keys | None = None, app: Any = None) -> Any:
    """The service's application, or another one, behind the guard."""
    return protect(app or make_app(service.real), service.real, keys)


def answered(service: GuardedService) -> dict[tuple[str, str], int]:
    """How many requests were counted, by interface and status."""
    from prometheus_client import generate_latest

    families = text_string_to_metric_families(generate_latest(service.metrics.registry).decode())
    samples = [sample for family in families for sample in family.samples]
    return {
        (sample.labels["interface"], sample.labels["status"]): int(sample.value)
        for sample in samples
        if sample.name == "pixrt_requests_total"
    }


@asynccontextmanager
async def live(service: GuardedService, app: FastAPI | None = None) -> AsyncIterator[int]:
    """A real server in this process; its port."""
    server = make_server(app or make_app(service.real), service.real)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that sends what a test says, byte by byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
