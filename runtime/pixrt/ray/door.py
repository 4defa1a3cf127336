"""A door: the server's guard before all replicas, as the ingress of Ray Serve. It hands requests on, and answers back.

What a client is told does not depend on the replica: a picture that one refuses is offered to the others; a job is
asked for where it is; what a replica had under way when it died gets a 503 that says so, and to try again.
"""

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import ray
from prometheus_client.exposition import generate_latest
from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixrt.ray import gathering
from pixrt.ray.asking import REPLICA, Asked, asked_of
from pixrt.ray.floor import Floor
from pixrt.ray.known import APPLICATION, DEPLOYMENT
from pixrt.serve import logs
from pixrt.serve.guard.answering import refuse
from pixrt.serve.guard.protect import protect
from pixrt.serve.logs import tell
from pixrt.serve.metrics import Metrics
from pixrt.serve.problems import Problem
from pixrt.serve.server import check_files
from pixrt.serve.settings import Settings

_JOBS = "/v1/jobs/"
# A replica's answers for which another one may have a better one.
_ELSEWHERE = frozenset({"queue_full", "not_ready", "deadline_unreachable"})
_MOVING_SECONDS = 30.0  # in which a replica that ends is waited for, to say where its jobs are
_LOOK_SECONDS = 0.5


class Door:
    """See the module."""

    def __init__(self, settings: Settings, replicas: DeploymentHandle) -> None:
        logs.configure(settings.options.log_format, logging.INFO)
        self._replicas = replicas
        self._asking = replicas.options(method_name="ask", stream=True)  # its router listens from now on
        self._keys = check_files(settings.options)
        self._floor = Floor(settings, Metrics())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Ray Serve calls for each request."""
        return protect(self._handle, self._floor, self._keys)

    async def close(self) -> None:
        """Let nobody in from now on."""
        self._floor.is_draining = True

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _live(receive, send)
            return
        try:
            body = await _body(receive)
            await self._answer(asked_of(scope, body), receive, send)
        except Problem as problem:
            await refuse(problem, scope, send)

    async def _answer(self, asked: Asked, receive: Receive, send: Send) -> None:
        """Raises Problem as long as nothing is sent."""
        if asked.path == "/health/live":
            return await _send_json(send, 200, {"status": "live"})
        if asked.path == "/health/ready":
            floor = self._floor
            said = {"status": "ready"} if floor.is_ready else {"status": "not ready", "reason": floor.why_not_ready}
            return await _send_json(send, 200 if floor.is_ready else 503, said)
        gather = gathering.of(asked)
        if gather is not None:
            answers = await self._all("whole", asked)
            if asked.path == "/metrics":  # requests are counted here
                answers.append(("door", 200, generate_latest(self._floor.metrics.registry)))
            status, kind, body = gather(answers)
            return await _send(send, status, kind, body)
        if not asked.path.startswith(_JOBS):
            await self._pass_on(asked, receive, send)
            return None
        while not await self._pass_on(dataclasses.replace(asked, to=await self._place_of(asked)), receive, send):
            await asyncio.sleep(_LOOK_SECONDS)  # it has just ended, which this process has not heard yet
        return None

    # Where a job is.

    async def _place_of(self, asked: Asked) -> str:
        """The replica that keeps a job. Raises Problem: 404, or 503 if it has died with its replica."""
        id = asked.path.removeprefix(_JOBS).partition("/")[0]
        name = id.partition("-")[0]
        end = asyncio.get_running_loop().time() + _MOVING_SECONDS
        while True:
            if name in self._floor.names:
                return name
            if found := await self._who_has(id):
                return found
            if not self._floor.has_known(name):
                message = f"There is no job {id!r:.60}. Results are kept for {self._floor.options.result_seconds:g} s."
                raise Problem(404, "job_not_found", message)
            is_over = asyncio.get_running_loop().time() > end
            if is_over or not await asyncio.to_thread(_is_alive, name):
                if found := await self._who_has(id):
                    return found
                raise _moving() if is_over else _lost()
            await asyncio.sleep(_LOOK_SECONDS)  # it finishes what it has, and hands over what it keeps

    async def _who_has(self, id: str) -> str:
        return next((name for name in await self._all("has", id) if name), "")

    async def _all(self, method: str, said: object) -> list[Any]:
        """What all replicas answer that are there."""
        if not self._floor.names:
            return []
        answers = await self._replicas.broadcast(method, said).results_async(return_exceptions=True)
        return [each for each in answers if not isinstance(each, BaseException)]

    # One request to one replica after the other.

    async def _pass_on(self, asked: Asked, receive: Receive, send: Send) -> bool:
        """Whether it came to the replica that it is for. Raises Problem as long as nothing is sent."""
        gone = asyncio.ensure_future(_gone(receive))
        last: list[Message] = []
        try:
            for _ in range(max(1, len(self._floor.names))):
                async with aclosing(self._stream(asked, gone)) as stream:
                    first = await anext(stream, None)
                    if first is None:
                        return gone.done()
                    if first["status"] not in (429, 503) or not asked.is_for_pictures:
                        await send(first)
                        async for message in stream:
                            await send(message)
                        return True
                    last = [first, *[message async for message in stream]]
                if _code(last) not in _ELSEWHERE:
                    break
                asked = dataclasses.replace(asked, past=(*asked.past, _replica(first)))
            for message in last:
                await send(message)
            return True
        finally:
            gone.cancel()

    async def _stream(self, asked: Asked, gone: "asyncio.Future[None]") -> AsyncGenerator[Message]:
        """A replica's messages, until the client has gone. Raises Problem if it dies before the first one."""
        response = self._asking.remote(asked)
        messages = aiter(response)
        has_begun = is_whole = False
        try:
            while True:
                message = asyncio.ensure_future(_next(messages))
                try:
                    await asyncio.wait((gone, message), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not message.done():
                        message.cancel()
                if not message.done():
                    return
                said = message.result()
                if said is None:
                    is_whole = True
                    return
                has_begun = True
                yield said
        except RayError as error:
            tell("a replica has ended with a request", level=logging.WARNING, error=error)
            if has_begun:
                raise  # the connection ends: half an answer is none
            raise _lost() from None
        finally:
            if not is_whole:
                response.cancel()


async def _next(messages: AsyncIterator[Any]) -> Message | None:
    return await anext(messages, None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    """A body that the guard has received; of a method that has none, what comes is left out."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


async def _live(receive: Receive, send: Send) -> None:
    """ASGI's lifespan: there is nothing to start or to end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _code(messages: list[Message]) -> str:
    """The code of a problem as an answer's messages."""
    try:
        said = json.loads(b"".join(message.get("body", b"") for message in messages))["error"]
        return str(said["code"]) if isinstance(said, dict) else _worded(messages)
    except (ValueError, KeyError, TypeError):
        return ""


def _worded(messages: list[Message]) -> str:
    """Interfaces that tell no code are asked again by their status."""
    return "queue_full" if messages[0]["status"] == 429 else ""


def _replica(first: Message) -> str:
    return next((value.decode() for name, value in first["headers"] if name == REPLICA), "")


def _is_alive(name: str) -> bool:
    """Whether a replica that is no longer asked still runs: it drains then."""
    own = serve.get_replica_context().replica_id
    id = dataclasses.replace(own, unique_id=name, deployment_id=_replicas_id(own.deployment_id))
    try:
        ray.get_actor(id.to_full_id_str(), namespace="serve")
    except ValueError:
        return False
    return True


def _replicas_id(own: Any) -> Any:
    return type(own)(DEPLOYMENT, APPLICATION)


def _lost() -> Problem:
    message = "The replica that had this has ended. Ask for the picture again."
    return Problem(503, "worker_lost", message, retry_after=1)


def _moving() -> Problem:
    message = "The replica that has this job is ending, and is still at it. Ask again."
    return Problem(503, "job_moving", message, retry_after=5)


async def _send_json(send: Send, status: int, body: dict[str, Any]) -> None:
    await _send(send, status, "application/json", json.dumps(body).encode())


async def _send(send: Send, status: int, kind: str, body: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
