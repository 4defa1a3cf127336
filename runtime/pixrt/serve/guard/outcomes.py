"""Outermost of the guard: every request gets an id, one outcome, a log line, and headers that keep browsers strict.

Must not import numpy or Pillow.
"""

import logging
import re
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixrt.serve.guard.answering import refuse
from pixrt.serve.interfaces.protocols import interface_of
from pixrt.serve.logs import tell
from pixrt.serve.metrics import Metrics
from pixrt.serve.problems import Problem

LEFT = 499  # nginx's number for a client that did not wait for its answer
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_QUIET = frozenset({"operations", "page"})  # interfaces whose requests say little, and are many
_STRICT = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Outcomes:
    """Wraps the application. In a request's `state` it leaves `request_id`, and `notes` for the log line."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what escapes the application is logged here and becomes a 500."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        try:
            await self._app(scope, request.receive, request.send)
        except Exception as error:
            tell("failed", {"id": request.id}, level=logging.ERROR, error=error)
            await request.fail()
        finally:
            self._end(scope, request)

    def _end(self, scope: Scope, request: "_Request") -> None:
        status, seconds = request.outcome, time.perf_counter() - request.started
        interface = interface_of(scope["path"]).name
        self._metrics.answered(interface, status, seconds)
        facts = {
            "id": request.id,
            "client": scope["state"].get("client"),
            "interface": interface,
            "method": scope["method"],
            "route": getattr(scope.get("route"), "path", None),  # a path may hold anything, its pattern does not
            "status": status,
            "ms": round(seconds * 1000, 1),
            **scope["state"]["notes"],
        }
        tell("request", facts, level=logging.DEBUG if interface in _QUIET else logging.INFO)


class _Request:
    """One request between server and application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.perf_counter()
        self._scope, self._receive, self._send = scope, receive, send
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        self.id = given.decode() if _ID.fullmatch(given) else secrets.token_hex(16)
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state.update(request_id=self.id, notes={})
        self._status = 0
        self._is_whole = self._has_left = False

    async def receive(self) -> Message:
        """The next message of the client."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._is_whole:
            self._has_left = True
        return message

    async def send(self, message: Message) -> None:
        """A message to the client."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            has = {name.lower() for name, _ in headers}
            headers.append((b"x-request-id", self.id.encode()))
            headers.extend(each for each in _STRICT if each[0] not in has)
            message = {**message, "headers": headers}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_whole = True

    async def fail(self) -> None:
        """Say that the server is at fault, if nothing is said yet."""
        if not self._status:
            words = f"The server failed; its log says where, under the request id {self.id}."
            await refuse(Problem(500, "server_error", words), self._scope, self.send)

    @property
    def outcome(self) -> int:
        """The status that was answered, if the client was there for it; 500 for half an answer."""
        if self._has_left or "has_left" in self._state:  # the latter is said by `connections`: no one may have asked
            return LEFT
        return self._status if self._is_whole else 500
