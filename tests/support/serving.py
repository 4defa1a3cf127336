"""A service that makes no pictures: what the HTTP side is tested against. And a client that can go away.

`FakeService` has the signatures of `pixrt.serve.service.Service`. Its tickets do what a test tells them to; left alone,
each is done at once.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from fastapi import FastAPI

from pixrt.options.schema import json_schema
from pixrt.options.serve import ServeOptions
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.serve.messages import Model
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Asked, Prediction, Result, State, Ticket

PICTURE = b"\x89PNG a picture"
MADE = b"a picture that was made"
PREVIEW = b"\x89PNG a preview"
SHA256 = "5" * 64
CLIENT = "addr:test"

MODEL = Model(
    name="demo",
    sha256=SHA256,
    precision="fp32",
    notice="For tests.",
    backend="null",
    native_resolution=64,
    size_multiple=8,
    tasks=("edit", "generate", "style"),
    defaults={"steps": 20, "guidance_scale": 2.0, "image_guidance_scale": 1.2, "scheduler": "dpmpp_2m"},
    schemas={name: json_schema(kind, name, {}) for name, kind in TASK_OPTIONS.items()},
    loras=(),
    examples=("make it red", "make it dark"),
    load_seconds=0.5,
    created=1_790_000_000,
)


@dataclass
class FakeService:
    """See the module. `on_accepted` is called with each ticket, in the order of submission."""

    options: ServeOptions = field(default_factory=ServeOptions)
    model: Model | None = MODEL
    is_ready: bool = True
    is_draining: bool = False
    is_full: bool = False
    retry_after: int = 7
    loras: tuple[str, ...] = ("watercolour", "ink:wash")
    on_accepted: "Callable[[Ticket], None] | None" = None
    refuses: Problem | None = None
    accepted: list[Ticket] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)  # of `accepted`, with the pictures that tickets let go of
    cancelled: list[Ticket] = field(default_factory=list)
    found: Mapping[str, Any] = field(default_factory=dict)
    read_pictures: list[bytes] = field(default_factory=list)
    _kept: list[Ticket] = field(default_factory=list)
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def why_not_ready(self) -> str:
        """The reason in words; "" if it is ready."""
        return "" if self.is_ready else "it is a fake"

    async def submit(self, asked: Sequence[Asked], *, client: str, keep: bool = False) -> list[Ticket]:
        """All of them, or a Problem."""
        if self.refuses is not None:
            raise self.refuses
        if self.is_full:
            raise Problem(429, "queue_full", "The queue is full.", retry_after=self.retry_after)
        now = time.time()
        tickets = [
            Ticket(f"t{next(self._ids)}", each, client, Prediction(now + 1, now + 2), self._cancel) for each in asked
        ]
        self.accepted += tickets
        self.asked += asked
        self._kept += tickets if keep else []
        for ticket in tickets:
            ticket.tell("queued", {"place": 0, "predicted_start": now + 1, "predicted_end": now + 2})
            (self.on_accepted or done)(ticket)
        return tickets

    async def read(self, picture: bytes) -> Mapping[str, Any]:
        """What a test says that is found in every picture."""
        if self.refuses is not None:
            raise self.refuses
        self.read_pictures.append(picture)
        return self.found

    def find(self, id: str, client: str) -> Ticket:
        """The client's ticket, while it is kept."""
        for ticket in self.tickets(client):
            if ticket.id == id:
                return ticket
        raise Problem(404, "job_not_found", f"There is no job {id!r:.60}.")

    def forget(self, ticket: Ticket) -> None:
        """It is kept no longer."""
        self._kept.remove(ticket)

    def tickets(self, client: str) -> list[Ticket]:
        """The client's, oldest first."""
        kept = self.options.result_seconds
        return [
            ticket
            for ticket in self._kept
            if ticket.client == client and (ticket.ended is None or time.time() < ticket.ended + kept)
        ]

    def _cancel(self, ticket: Ticket) -> None:
        self.cancelled.append(ticket)
        end(ticket, State.CANCELLED, Problem(499, "cancelled", "It was cancelled."))


def hold(ticket: Ticket) -> None:
    """Leave it in the queue."""


def step(ticket: Ticket, number: int, of: int = 4) -> None:
    """A step of it has run."""
    ticket.state, ticket.step, ticket.steps = State.RUNNING, number, of
    ticket.tell("step", {"step": number, "of": of, "predicted_end": ticket.prediction.end})


def preview(ticket: Ticket, number: int, of: int = 4) -> None:
    """A picture of a step."""
    ticket.tell("preview", {"index": number - 1, "step": number, "of": of}, PREVIEW + bytes([number]))


def done(ticket: Ticket) -> None:
    """It is made."""
    asked = ticket.asked
    parameters = {
        "pixrt": "0",
        "task": asked.options.task,
        "model": MODEL.name,
        "model_sha256": SHA256,
        "instruction": asked.text,
        "steps": asked.options.steps,
        "seed": asked.options.seed,
    }
    times = {"queue_ms": 1.0, "denoise_ms": 20.0}
    ticket.result = Result(MADE, asked.output, asked.size or (64, 48), parameters, times, "null", ("a note",))
    end(ticket, State.DONE)


def failing(problem: Problem) -> Callable[[Ticket], None]:
    """It fails with this."""
    return lambda ticket: end(ticket, State.FAILED, problem)


def end(ticket: Ticket, state: State, problem: Problem | None = None) -> None:
    """It has ended, and its client's pictures are let go of."""
    ticket.asked = replace(ticket.asked, image=None, mask=None, style=None)
    ticket.state, ticket.ended, ticket.problem = state, time.time(), problem
    name: Any = state.value
    ticket.tell(name, {} if problem is None else {**problem.body["error"], "status": problem.status})


def with_previews(ticket: Ticket) -> None:
    """Four steps, the previews that were asked for, and the picture."""
    for number in range(1, 5):
        step(ticket, number)
        if number <= ticket.asked.previews:
            preview(ticket, number)
    done(ticket)


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application, without a server; what the application raises is its answer, as for real."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@dataclass
class Visit:
    """One request, driven message by message: its client may go away whenever it likes."""

    app: FastAPI
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    leaves_at_once: bool = False  # before its body has come
    sent: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gone, self._started, self._received = asyncio.Event(), asyncio.Event(), 0
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self.headers.items()],
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "state": {"client": CLIENT},
        }
        self.task = asyncio.ensure_future(self.app(scope, self._receive, self._send))

    def go_away(self) -> None:
        """The client's connection ends."""
        self._gone.set()

    async def started(self) -> None:
        """Wait until the body has been read and more is waited for."""
        await self._started.wait()

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.sent[0]["status"])

    @property
    def text(self) -> str:
        """The answer's body as far as it has come."""
        return b"".join(message.get("body", b"") for message in self.sent[1:]).decode()

    async def _receive(self) -> dict[str, Any]:
        if self._received == 0 and not self.leaves_at_once:
            self._received = 1
            return {"type": "http.request", "body": self.body, "more_body": False}
        self._started.set()
        if not self.leaves_at_once:
            await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@dataclass(frozen=True)
class Sent:
    """One server-sent event as a client has it."""

    event: str
    id: str
    data: Any


def events_of(text: str) -> list[Sent]:
    """The events of a stream; comments, such as pings, are none."""
    found = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        fields = {name: value for name, _, value in lines}
        if "data" in fields:
            found.append(Sent(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])))
    return found
