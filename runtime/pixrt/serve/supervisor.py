"""The worker as the front sees it: a process, started anew whenever it has died, and the socket to it.

Must not import numpy or Pillow.
"""

import asyncio
import os
import socket
import subprocess
import sys
from typing import Any, Self

from pixrt.serve.channel import FrontEnd
from pixrt.serve.messages import Setup, ToWorker

_PATIENCE = 5.0  # seconds for a worker to end by itself


class WorkerProcess:
    """One worker, from its start to its end."""

    def __init__(self, process: subprocess.Popen[bytes], end: FrontEnd) -> None:
        self._process = process
        self._end = end

    @classmethod
    async def start(cls, setup: Setup) -> Self:
        """Start a process and tell it what it works with."""
        ours, theirs = socket.socketpair()
        # A session of its own: Ctrl-C in the terminal is for the front, which ends it when all is done.
        process = subprocess.Popen(
            [sys.executable, "-m", "pixrt.serve.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        ours.setblocking(False)
        worker = cls(process, await FrontEnd.over(ours))
        worker.send(setup)
        return worker

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        """Tell it something; never waits."""
        self._end.send(message)

    async def receive(self) -> Any:
        """What it says next; None once it has gone."""
        return await self._end.receive()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    async def end(self) -> None:
        """Have it end, and wait until it has."""
        self._end.close()
        try:
            await asyncio.wait_for(asyncio.to_thread(self._process.wait), _PATIENCE)
        except TimeoutError:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def __del__(self) -> None:
        if self._process.poll() is None:
            os.kill(self._process.pid, 9)
