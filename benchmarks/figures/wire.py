"""A client that costs next to nothing, so that it does not measure itself: requests are bytes that were made before.

httpx writes them, httptools reads the answers, asyncio's protocols are all that is between.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import httptools
import httpx
import uvloop

EDITS, GENERATIONS, JOBS = "/v1/images/edits", "/v1/images/generations", "/v1/jobs"
Back = TypeVar("Back")


@dataclass(slots=True)
class Answer:
    """What came back, and when (monotonic clock, seconds); status 0: the server ended the connection without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    asked: float = 0.0
    came: float = 0.0

    @property
    def ms(self) -> float:
        """From the request to the end of the answer."""
        return 1000 * (self.came - self.asked)

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def request(
    path: str,
    fields: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    *,
    method: str = "POST",
    as_json: Any = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A request as it goes over the wire: a form with files, or JSON."""
    named = {name: (f"{name}.png", data, "image/png") for name, data in (files or {}).items()}
    made = httpx.Request(
        method,
        f"http://127.0.0.1{path}",
        data={name: str(value) for name, value in (fields or {}).items()} or None,
        files=named or None,
        json=as_json,
        headers=headers,
    )
    body = made.read()
    head = b"".join(name + b": " + value + b"\r\n" for name, value in made.headers.raw)
    return f"{method} {path} HTTP/1.1\r\n".encode() + head + b"\r\n" + body


class Connection(asyncio.Protocol):
    """One connection: an answer after the other."""

    open: ClassVar[set["Connection"]] = set()

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    @classmethod
    async def to(cls, port: int) -> "Connection":
        """Connect."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def ask(self, wire: bytes) -> "asyncio.Future[Answer]":
        """Send a request now; its answer is the future's."""
        self._answer = Answer(asked=time.monotonic())
        self._waiting = asyncio.get_running_loop().create_future()
        self.send(wire)
        return self._waiting

    def send(self, data: bytes) -> None:
        """Send bytes, part of a request perhaps."""
        assert self._transport is not None
        self._transport.write(data)

    def leave(self) -> None:
        """Go away, whatever has been asked."""
        assert self._transport is not None
        self._transport.abort()

    # What asyncio and httptools call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self)
        self._done()
        if not self.closed.done():
            self.closed.set_result(time.monotonic())

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._answer.body += body

    def on_message_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._done()

    def _done(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._answer.came = time.monotonic()
            self._waiting.set_result(self._answer)


async def connected(port: int, count: int) -> list[Connection]:
    """Several connections, open."""
    return list(await asyncio.gather(*(Connection.to(port) for _ in range(count))))


async def once(port: int, wire: bytes) -> Answer:
    """Ask on a connection of its own."""
    connection = await Connection.to(port)
    try:
        return await connection.ask(wire)
    finally:
        connection.leave()


def run(make: Callable[[], Coroutine[Any, Any, Back]]) -> Back:
    """Run a client to its end, and close what it has left open."""

    async def whole() -> Back:
        try:
            return await make()
        finally:
            for connection in tuple(Connection.open):
                connection.leave()
                await connection.closed

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())
