"""What the worker is asked to find in pictures: how they were made. A few at once, and in nobody's seat.

Must not import numpy or Pillow.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pixrt.serve import messages as say
from pixrt.serve.problems import Problem

MOST = 4  # at once: codecs are there for pictures that are made


class Readings:
    """Those of one worker, which is told by `send`."""

    def __init__(self, send: Callable[[say.Read], None]) -> None:
        self._send = send
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def require_room(self) -> None:
        """Raise Problem if the worker is asked for as many as it may be."""
        if len(self) >= MOST:
            message = "Many pictures are being looked at. Try again in a moment."
            raise Problem(429, "readings_full", message, retry_after=1)

    async def read(self, number: int, picture: bytes) -> Mapping[str, Any]:
        """What is found. Raises Problem."""
        found: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = found
        try:
            self._send(say.Read(number, picture))
            return await found
        finally:
            del self._waiting[number]

    def found(self, message: say.Found) -> None:
        """The worker has found it."""
        waiting = self._waiting.get(message.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.parameters)

    def broke(self, number: int, problem: Problem) -> bool:
        """Something has failed; whether it was one of these."""
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_exception(problem)
        return waiting is not None

    def end(self, problem: Problem) -> None:
        """The worker is gone."""
        for number in self._waiting:
            self.broke(number, replace(problem))
