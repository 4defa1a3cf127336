"""Receiving a request's body: not too large, not too slowly, not too many together; then the application is called.

The application reads it out of memory and never waits for it: a request that is let through has its seat before
another one is looked at. If there is no room, it is refused before it is parsed, and before those are parsed for which
there is: that many are refused takes no longer for it. Must not import numpy or Pillow.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixrt.serve.guard.answering import refuse
from pixrt.serve.guard.entrance import check_room
from pixrt.serve.interfaces.protocols import interface_of
from pixrt.serve.problems import Problem

if TYPE_CHECKING:
    from pixrt.serve.guard.guarded import Guarded

_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Uploads:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, service: "Guarded") -> None:
        self._app = app
        self._service = service
        options = service.options
        self._idle, self._seconds = options.body_idle_seconds, options.body_seconds
        self._most, self._most_together = options.max_body_mib << 20, options.max_uploads_mib << 20
        self._receiving = 0  # bytes of the bodies that are not whole yet
        self._entering = 0  # requests for pictures whose bodies are whole, and which have no seat yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive a body, and hand the request on; or refuse it."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        try:
            self._check_length(scope)
            chunks = await self._received(receive)
            if chunks is None:
                return  # the client has left
            if interface_of(scope["path"]).is_for_pictures(scope["method"], scope["path"]):
                check_room(self._service, self._entering)
                await self._let_others_be_refused()
        except Problem as problem:
            # Who pauses is not listened to any longer; who sends goes on for a while, so that the answer is read.
            await refuse(problem, scope, send, close=problem.status == 408)
            return

        async def replay() -> Message:
            if not chunks:
                return await receive()
            body = chunks.popleft()
            return {"type": "http.request", "body": body, "more_body": bool(chunks)}

        await self._app(scope, replay, send)

    async def _let_others_be_refused(self) -> None:
        """Keep a seat meanwhile. The application is called next, and takes its own before anything else runs."""
        self._entering += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._entering -= 1

    def _check_length(self, scope: Scope) -> None:
        """Raises Problem for a body that says beforehand that it is too large."""
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self._most:
                raise self._too_large()

    async def _received(self, receive: Receive) -> deque[bytes] | None:
        """The body; None if the client left before its end. Raises Problem."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        chunks: deque[bytes] = deque()
        size = 0
        try:
            while True:
                async with asyncio.timeout_at(min(loop.time() + self._idle, end)):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body = message.get("body", b"")
                chunks.append(body)
                size += len(body)
                self._receiving += len(body)
                if size > self._most:
                    raise self._too_large()
                if not message.get("more_body", False):
                    return chunks
                if self._receiving > self._most_together:
                    words = "The server receives as much as it can at once. Try again in a moment."
                    raise Problem(429, "uploads_full", words, retry_after=1)
        except TimeoutError:
            words = f"After {size} bytes the body paused for {self._idle:g} s, or took more than {self._seconds:g} s."
            raise Problem(408, "body_too_slow", f"{words} Send it again.", retry_after=1) from None
        finally:
            self._receiving -= size

    def _too_large(self) -> Problem:
        message = f"The body is larger than {self._most >> 20} MiB. Send smaller pictures."
        return Problem(413, "request_too_large", message)
