"""Connections: how many at once, and how long a client may take for a request's head. uvicorn bounds neither.

Every answer that is written here counts among the requests, under the interface "none". Must not import numpy or
Pillow.
"""

import asyncio
import http
import json
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pixrt.options.serve import ServeOptions
from pixrt.serve.guard.outcomes import LEFT
from pixrt.serve.interfaces.protocols import interface_of
from pixrt.serve.logs import tell
from pixrt.serve.metrics import Metrics
from pixrt.serve.problems import Problem

NO_INTERFACE = "none"
_MOST_HEAD_BYTES = 64 << 10
# Linux ends a connection whose client takes nothing of an answer for so long: what is written cannot be taken back.
_STALLED_MS = 60_000


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's, with bounds."""

    def __init__(self, *args: Any, options: ServeOptions, metrics: Metrics, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = options
        self._metrics = metrics
        self._timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._has_head = False  # the head of a request is here, and its answer or its body is not whole
        self._in_body = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; one too many is told so."""
        super().connection_made(transport)
        end_if_stalled(transport)
        if len(self.connections) > self._options.max_connections:
            self._end(Problem(503, "too_many_connections", "The server has too many connections.", retry_after=1))
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed. If that was before an answer was whole, the guard is told: the application may not have asked.

        uvicorn tells only the last of several requests that were sent at once.
        """
        self._stop_waiting()
        running = self._running
        if running is not None and not running.response_complete:
            running.scope["state"]["has_left"] = True
            running.disconnected = True
            running.message_event.set()
        for waiting, _ in self.pipeline:
            self._metrics.answered(interface_of(waiting.scope["path"]).name, LEFT, 0.0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come: of a head, which must be short and soon whole, or of a body, which the guard bounds."""
        was_waiting = not self._has_head
        if was_waiting and self._timer is None:
            self._expect_head()
        was_waiting = was_waiting and not self._in_body
        super().data_received(data)
        if was_waiting and not self._has_head:  # so all of it belongs to a head that is not whole
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
                message = f"The request's head is larger than {_MOST_HEAD_BYTES >> 10} KiB."
                self._end(Problem(431, "head_too_large", message))

    def on_headers_complete(self) -> None:
        """The head of a request is whole."""
        self._stop_waiting()
        self._has_head = self._in_body = True
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body of a request is whole."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is whole. If its request is not, the client has a while to notice: then it may send no more."""
        super().on_response_complete()
        self._has_head = not self.cycle.response_complete  # of the last request that has come
        if self._in_body and not self._has_head:
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._end(Problem(400, "no_http", msg))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _expect_head(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self._options.header_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """No head in time; a client that has begun one is told why."""
        if self._in_body or not self._head_bytes:
            self.transport.abort()
        elif not self.transport.is_closing():
            seconds = self._options.header_seconds
            self._end(Problem(408, "head_too_slow", f"The request's head took more than {seconds:g} s.", retry_after=1))

    def _end(self, problem: Problem) -> None:
        """Say why, and close."""
        self._metrics.answered(NO_INTERFACE, problem.status, 0.0)
        tell("request", {"interface": NO_INTERFACE, "status": problem.status, "code": problem.code})
        body = json.dumps(problem.body)
        phrase = http.HTTPStatus(problem.status).phrase
        headers = {"content-type": "application/json", "content-length": len(body), "connection": "close"}
        lines = [
            f"HTTP/1.1 {problem.status} {phrase}",
            *(f"{k}: {v}" for k, v in {**headers, **problem.headers}.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", body]).encode())
        self.transport.close()


def end_if_stalled(transport: asyncio.Transport) -> None:
    """Let the kernel end a connection whose client stops to read, if it can."""
    own = transport.get_extra_info("socket")
    if own is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
