"""A request on its way from a door to a replica, and the answer that comes back: plain data. Must not import Ray."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Scope

from pixrt.serve.interfaces.protocols import interface_of

REPLICA = b"x-pixrt-replica"  # which replica an answer is from
_LORA = re.compile(rb'name="lora(?:\[\])?"\r\n\r\n([^\r\n:]{1,200})')


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request, whole.

    Attributes:
        client: who asks, as the guard found it out.
        name: the request's id.
        to: the replica that it is for; "" for any.
        past: replicas that have refused it.
    """

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    body: bytes = field(repr=False)
    client: str
    name: str
    to: str = ""
    past: tuple[str, ...] = ()

    @property
    def is_for_pictures(self) -> bool:
        """Whether it needs a seat."""
        return interface_of(self.path).is_for_pictures(self.method, self.path)

    @property
    def loras(self) -> frozenset[str]:
        """LoRAs that a form names: a hint for who is to make it, no more."""
        return frozenset(found.decode("latin-1") for found in _LORA.findall(self.body))


def asked_of(scope: Scope, body: bytes) -> Asked:
    """A request that the guard has let in."""
    state = scope["state"]
    headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
    return Asked(
        scope["method"],
        scope["path"],
        scope.get("query_string", b""),
        headers,
        body,
        state["client"],
        state["request_id"],
    )


async def answer(app: ASGIApp, asked: Asked) -> AsyncIterator[Message]:
    """The messages by which an application answers. Ended early, the application sees that its client has left."""
    said: asyncio.Queue[Message | None] = asyncio.Queue(8)
    has_body = asyncio.Event()

    async def receive() -> Message:
        if not has_body.is_set():
            has_body.set()
            return {"type": "http.request", "body": asked.body, "more_body": False}
        await asyncio.Event().wait()  # who leaves cancels the task
        raise AssertionError

    async def run() -> None:
        try:
            await app(_scope(asked), receive, said.put)
        finally:
            await said.put(None)

    task = asyncio.create_task(run())
    try:
        while (message := await said.get()) is not None:
            yield message
        await task
    finally:
        task.cancel()
        while not said.empty():  # or its last word would have to wait
            said.get_nowait()
        await asyncio.gather(task, return_exceptions=True)


def _scope(asked: Asked) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "root_path": "",
        "query_string": asked.query,
        "headers": list(asked.headers),
        "client": None,
        "server": None,
        "state": {"client": asked.client, "request_id": asked.name, "notes": {}},
    }
