"""A ticket: one picture that the server has accepted, from its place in the queue to its result.

Must not import numpy or Pillow.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Self

from pixrt.options.tasks import Options
from pixrt.serve.problems import Problem

OutputFormat = Literal["png", "jpeg", "webp", "raw"]  # raw: RGB bytes row by row, for tensors
EventName = Literal["queued", "step", "preview", "done", "failed", "cancelled"]
MEDIA_TYPES: Mapping[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "raw": "application/octet-stream",
}

_PREVIEWS = 8  # that a ticket keeps for who comes back


class State(StrEnum):
    """Where a ticket is on its way; the last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Output:
    """The file that a client wants: `quality`, 1 to 100, is for JPEG and WebP."""

    format: OutputFormat = "png"
    quality: int = 95


@dataclass(frozen=True, slots=True)
class RawPicture:
    """A picture that came as a tensor: RGB bytes row by row, `3 * width * height` of them."""

    data: bytes = field(repr=False)
    width: int
    height: int


Picture = bytes | RawPicture
"""A picture of a client: an encoded file's bytes, or pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One picture that a client asks for; its options say by which task.

    Attributes:
        size: width and height to which picture and mask are brought first; None leaves them as they are.
        same_shape: a `size` of other proportions than the picture's is refused (`pixrt.serve.sizes.check_shape`).
        loras: names of the server's LoRA folder, with their scales.
        deadline_ms: the client does not want it later than this many milliseconds from now.
        previews: how many pictures of its steps the client wants to see, spread evenly.
    """

    options: Options
    text: str = ""
    image: Picture | None = field(default=None, repr=False)
    mask: Picture | None = field(default=None, repr=False)
    size: tuple[int, int] | None = None
    same_shape: bool = False
    style: Picture | None = field(default=None, repr=False)
    output: Output = Output()
    loras: tuple[tuple[str, float], ...] = ()
    deadline_ms: int | None = None
    previews: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """A picture that is made, as an encoded file, and how it was made.

    `parameters` are those of `EditResult.parameters`, the seed and the model's hash among them; `times` are
    milliseconds by stage, `queue_ms` the first of them; `notes` are sentences for the user, `EditResult.notes`.
    """

    data: bytes = field(repr=False)
    output: Output
    size: tuple[int, int]
    parameters: Mapping[str, Any] = field(repr=False)
    times: Mapping[str, float]
    backend: str
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def media_type(self) -> str:
        """Of `data`."""
        return MEDIA_TYPES[self.output.format]


@dataclass(frozen=True, slots=True)
class Prediction:
    """When a picture is expected to begin and to be done: Unix seconds."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a ticket: `id` counts from 1, `data` is what a client is told, as plain JSON.

    A preview has its picture as bytes beside it, PNG.
    """

    id: int
    name: EventName
    data: Mapping[str, Any]
    picture: bytes | None = field(default=None, repr=False)


class Ticket:
    """One accepted picture. Lives on the server's event loop; whoever waits for it may go away and come back."""

    def __init__(self, id: str, asked: Asked, client: str, prediction: Prediction, cancel: Callable[["Ticket"], None]):
        self.id = id
        self.asked = asked
        self.client = client
        self.prediction = self.promised = prediction  # the former is renewed
        self.alone_seconds = 0.0  # what it takes if it has the device to itself; 0 if nobody has said
        self.created = time.time()
        self.began: float | None = None
        self.ended: float | None = None
        self.state = State.QUEUED
        self.place = 0  # how many are before it in the queue
        self.step, self.steps = 0, 0
        self.previews = 0  # that have been told
        self.result: Result | None = None
        self.problem: Problem | None = None
        self._events: list[Event] = []
        self._last = 0
        self._cancel = cancel
        self._changed = asyncio.Event()

    def cancel(self) -> None:
        """Ask for its end: at once while it is queued, within one step while it runs. Nothing if it has ended."""
        if not self.state.is_end:
            self._cancel(self)

    async def wait(self) -> Result:
        """Its result, when it is there. Raises its Problem if it failed; of a cancelled one that is status 499."""
        async for _ in self.follow():
            pass
        if self.problem is not None:
            raise replace(self.problem)  # its own would gather the frames of all who wait, and what they hold
        assert self.result is not None
        return self.result

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """What happened to it after the event `after`, and what happens, until its end. For any number at once."""
        while True:
            news = [event for event in self._events if event.id > after]
            for event in news:
                after = event.id
                yield event
            if news:
                continue  # whoever listens may have taken a while
            if self.state.is_end:
                return
            await self._changed.wait()

    def hand_over(self) -> dict[str, Any]:
        """All that is said of one that has ended, for another process; see `taken_over`."""
        assert self.state.is_end
        return {name: value for name, value in vars(self).items() if name not in ("_cancel", "_changed")}

    @classmethod
    def taken_over(cls, said: Mapping[str, Any]) -> Self:
        """One that has ended in another process."""
        ticket = cls(said["id"], said["asked"], said["client"], said["prediction"], lambda _: None)
        vars(ticket).update(said)
        return ticket

    @property
    def preview_bytes(self) -> int:
        """Of the previews that are kept."""
        return sum(len(event.picture) for event in self._events if event.picture is not None)

    def tell_place(self, place: int) -> None:
        """Add an event: so many are before it."""
        self.place = place
        start, end = self.prediction.start, self.prediction.end
        self.tell("queued", {"place": place, "predicted_start": start, "predicted_end": end})

    def tell_step(self) -> None:
        """Add an event: so many of its steps are made."""
        self.tell("step", {"step": self.step, "of": self.steps, "predicted_end": self.prediction.end})

    def tell(self, name: EventName, data: Mapping[str, Any], picture: bytes | None = None) -> None:
        """Add an event. A new place in the queue takes the place of the last one, so that the log stays short."""
        self._last += 1
        if self._events and name in ("queued", "step") and self._events[-1].name == name:
            self._events.pop()
        elif name == "preview":
            shown = [event for event in self._events if event.name == "preview"]
            if len(shown) == _PREVIEWS:
                self._events.remove(shown[0])
        self._events.append(Event(self._last, name, data, picture))
        self._changed.set()
        self._changed = asyncio.Event()
