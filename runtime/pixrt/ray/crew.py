"""A gallery's runner whose networks are those of actors on a Ray cluster; the gallery itself is the one of one machine.

What is checked, decoded, encoded, written and put down in the journal happens where the command runs, in the code that
does so without Ray: pixels go to the actors, and results come back. So no other machine needs the folders; files are
the same to the byte; and a picture that was on an actor which died is only made again. Ray starts that actor anew.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import ray

from pixrt.bundles.manifest import Manifest
from pixrt.editor.editor import Editor
from pixrt.editor.events import Event, Failed, Made
from pixrt.editor.runner import Runner
from pixrt.errors import BackendError, PixrtError
from pixrt.options.ray import ShareOptions
from pixrt.options.session import SessionOptions
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request

_AHEAD = 2  # batches that an actor has: one that it makes, and the next


@dataclass(frozen=True, slots=True)
class Opening:
    """How every actor opens the bundle: the arguments of `Editor`. What they name must be there on every node."""

    bundle: str
    session: SessionOptions
    loras: Sequence[Any] = ()
    embeddings: Sequence[Any] = ()


class Maker:
    """An actor: one opened bundle."""

    def __init__(self, opening: Opening) -> None:
        self._editor = Editor(opening.bundle, opening.session, loras=opening.loras, embeddings=opening.embeddings)

    def make(self, requests: list[Request]) -> list[Event]:
        """What became of each picture."""
        with self._editor.events(requests, steps=False) as run:
            return list(run)

    def pid(self) -> int:
        """Its process."""
        import os

        return os.getpid()


class Crew:
    """See the module: what a gallery wants of a `Runner`. Use it as a context.

    `editor` checks, and runs no network; `batch` is the most pictures that an actor makes together.
    """

    def __init__(self, editor: Runner, opening: Opening, share: ShareOptions, batch: int) -> None:
        session = opening.session
        if not share.replica_gpus and session.threads is None:
            session = replace(session, threads=max(1, math.ceil(share.replica_cpus)))
        self._editor = editor
        self._batch = batch
        actor = ray.remote(Maker).options(
            num_cpus=share.replica_cpus,
            num_gpus=share.replica_gpus,
            max_restarts=-1,
            max_task_retries=-1,
        )
        self.makers = [actor.remote(replace(opening, session=session)) for _ in range(share.replicas)]

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self._editor.manifest

    def check(self, jobs: Sequence[Job]) -> list[Request]:
        """See `Runner.check`."""
        return self._editor.check(jobs)

    def events(self, requests: Iterable[Request], *, steps: bool = False) -> "CrewRun":
        """See `Runner.events`; there are no steps."""
        run = CrewRun(self.makers, self._batch)
        for request in requests:
            run.add(request)
        return run

    def close(self) -> None:
        """End the actors."""
        for maker in self.makers:
            ray.kill(maker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class CrewRun(Iterator[Event]):
    """Pictures on their way through actors: so many batches are out, the rest waits. See `pixrt.editor.run.Run`."""

    def __init__(self, makers: Sequence[Any], batch: int) -> None:
        self._batch = batch
        self._free = deque(maker for _ in range(_AHEAD) for maker in makers)
        self._waiting: deque[Request] = deque()
        self._out: dict[Any, Any] = {}  # the actor of every batch that is out
        self._ready: deque[Event] = deque()

    def add(self, request: Request) -> None:
        """One more picture."""
        self._waiting.append(request)
        if len(self._waiting) >= self._batch:
            self._send()

    @property
    def waiting(self) -> int:
        """How many pictures no actor has."""
        return len(self._waiting)

    def __next__(self) -> Event:
        while not self._ready:
            self._send()
            if not self._out:
                raise StopIteration
            done, _ = ray.wait(list(self._out), num_returns=1)
            self._free.append(self._out.pop(done[0]))
            self._ready.extend(_heard(done[0]))
        return self._ready.popleft()

    def close(self) -> None:
        """Have nothing more of what is out."""
        self._waiting.clear()
        for batch in self._out:
            ray.cancel(batch)
        self._out.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self) -> None:
        while self._waiting and self._free:
            count = min(self._batch, len(self._waiting))
            maker = self._free.popleft()
            self._out[maker.make.remote([self._waiting.popleft() for _ in range(count)])] = maker


def _heard(batch: Any) -> list[Event]:
    """What became of a batch. Raises PixrtError: where a bundle cannot be opened, no picture is made."""
    try:
        events: list[Event] = ray.get(batch)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, PixrtError):
            raise cause from None
        raise BackendError(f"Ray lost an actor for good: {error}", remedy="Look at the cluster; then go on") from None
    assert all(isinstance(event, Made | Failed) for event in events)
    return events
