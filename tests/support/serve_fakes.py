"""A server of its own process whose pictures take a while, one after another: python serve_fakes.py SECONDS OPTIONS.

The options are JSON. It prints its address, as `pixrt serve` does.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from guarded import GuardedService
from pixrt.cli.console import fail
from pixrt.errors import PixrtError
from pixrt.options.serve import ServeOptions
from pixrt.serve import logs, telemetry
from pixrt.serve.app import make_app
from pixrt.serve.guard.keys import Keys
from pixrt.serve.problems import Problem
from pixrt.serve.server import run
from pixrt.serve.tickets import State
from serving import done, end, hold, step


class SlowService(GuardedService):
    """One picture at a time, `seconds` each."""

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(ServeOptions(port=0, **options), on_accepted=hold)
        self._seconds = seconds

    async def start(self) -> None:
        """Begin to make pictures."""
        self._making = asyncio.create_task(self._make())

    async def _make(self) -> None:
        while True:
            waiting = [ticket for ticket in self.accepted if not ticket.state.is_end]
            if waiting:
                step(waiting[0], 1)
            await asyncio.sleep(self._seconds)
            if waiting and not waiting[0].state.is_end:
                done(waiting[0])
                self.metrics.ended(waiting[0])

    async def close(self) -> None:
        """What has not ended fails."""
        self._making.cancel()
        for ticket in self.accepted:
            if not ticket.state.is_end:
                end(ticket, State.FAILED, Problem(503, "closed", "The server ends.", retry_after=5))


def _main(seconds: str, options: str) -> None:
    given = json.loads(options)
    file = Path(given.pop("keys_file")) if "keys_file" in given else None
    service = SlowService(float(seconds), keys_file=file, **given)
    logs.configure("json")
    if service.options.otel:
        telemetry.start()
    try:
        run(make_app(service.real), service.real, Keys(file) if file else None, lambda said: print(said, flush=True))
    except PixrtError as error:
        fail(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    _main(*sys.argv[1:])
