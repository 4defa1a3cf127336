"""The gate: the guard, and behind it what sends each request to the replica that shall answer.

Must not import numpy or Pillow.
"""

import asyncio
import contextlib
import contextvars
import json
import math
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixrt.serve import logs
from pixrt.serve.cluster.calls import DESK, Call, Elsewhere, KeptJob, Said, call_of, lora_of, owner_of, wish
from pixrt.serve.cluster.desk import desk
from pixrt.serve.guard.answering import refuse
from pixrt.serve.guard.protect import protect
from pixrt.serve.interfaces.jobs import MOST_LISTED
from pixrt.serve.interfaces.jobs import PATH as JOBS
from pixrt.serve.metrics import Metrics, text_of
from pixrt.serve.problems import Problem
from pixrt.serve.server import check_files
from pixrt.serve.settings import Settings

_PATIENCE = 60.0  # seconds for a replica that ends to leave a job at the desk
_AGAIN_SECONDS = 0.2
Found = TypeVar("Found")
_SCRAPE_SECONDS = 8.0  # replicas that say nothing for so long are left out of what all of them say
_LOST = "The replica that made it has ended. Ask again."


class Gate:
    """The ingress of Ray Serve. It lets in, as one server does, and has no picture of its own: any number may run."""

    def __init__(self, settings: Settings, replicas: DeploymentHandle[Any]) -> None:
        """`replicas` are called as `Replica.answer` and `Replica.scrape` say. Raises OptionError for wrong keys."""
        logs.configure(settings.options.log_format)
        options = settings.options
        self.options, self.metrics = options, Metrics()
        self.is_ready, self.why_not_ready, self.free, self.retry_after = True, "", math.inf, 1
        self._replicas = replicas
        self._keys = check_files(options)
        self._endings: set[asyncio.Future[None]] = set()
        self._desk = desk(DESK, options.result_mib << 20, options.result_seconds)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Ray serves."""
        return protect(self.forward, self, self._keys)

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application behind the guard."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        try:
            path, method = scope["path"], scope["method"]
            if path == "/health/live":
                await JSONResponse({"status": "live"})(scope, receive, send)
            elif path == "/metrics" and method in ("GET", "HEAD"):
                await (await self._all_metrics(scope))(scope, receive, send)
            elif path == JOBS and method in ("GET", "HEAD"):
                await (await self._all_jobs(scope))(scope, receive, send)
            else:
                await self._ask(scope, await _body(receive), receive, send)
        except Problem as problem:
            await refuse(problem, scope, send)

    async def _ask(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Have one replica answer. Raises Problem if it ended before it said anything."""
        owner, has_begun = owner_of(scope["path"]), False
        try:
            async for said in self._answer(call_of(scope, body, owner), lora_of(scope), receive):
                if isinstance(said, Elsewhere):
                    await self._left_behind(scope, receive, send)
                    return
                for message in said:
                    await send(message)
                    has_begun = True
        except RayActorError:
            if has_begun:
                raise
            raise Problem(503, "replica_lost", _LOST, retry_after=1) from None
        except (BackPressureError, DeploymentUnavailableError):
            raise Problem(503, "not_ready", "Not now: no replica takes requests.", retry_after=5) from None

    async def _answer(self, call: Call, lora: str, receive: Receive) -> AsyncIterator[Said]:
        """What a replica says, as long as the client is there."""
        handle = self._replicas.options(stream=True, multiplexed_model_id=wish(call.replica, lora))
        answer = handle.answer.remote(call)
        gone = asyncio.ensure_future(receive())
        said = aiter(answer)
        is_whole = False
        try:
            while not is_whole:
                heard = asyncio.ensure_future(anext(said))
                await asyncio.wait((gone, heard), return_when=asyncio.FIRST_COMPLETED)
                if not heard.done():
                    answer.cancel()
                    await asyncio.gather(heard, return_exceptions=True)
                    raise Problem(499, "cancelled", "The client went away.")
                word = heard.result()
                is_whole = isinstance(word, Elsewhere) or _is_last(word[-1])
                yield word
        finally:
            gone.cancel()
            if is_whole:  # the client does not wait for the end of what is said
                self._endings.add(ending := asyncio.ensure_future(_rest(said)))
                ending.add_done_callback(self._endings.discard)
            else:
                answer.cancel()

    async def _left_behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for a job whose replica takes no requests any more: it is ending, or has ended. Raises Problem."""
        path, method, client = scope["path"], scope["method"], scope["state"]["client"]
        id, part = (*path.removeprefix(f"{JOBS}/").split("/"), "")[:2]
        waits = part == "events" or method == "DELETE"
        for _ in range(int(_PATIENCE / _AGAIN_SECONDS)):
            is_known, job = await self._desk.find.remote(id, client)
            if job is not None and (not waits or job.described["ended"] is not None):
                if method == "DELETE":
                    await self._desk.forget.remote(id)
                await _respond_kept(job, part)(scope, receive, send)
                return
            if not is_known:
                message = f"There is no job {id!r:.60}. Results are kept for {self.options.result_seconds:g} s."
                raise Problem(404, "job_not_found", message)
            await asyncio.sleep(_AGAIN_SECONDS)
        raise Problem(503, "not_ready", "The job's replica is ending. Ask again.", retry_after=5)

    async def _all_jobs(self, scope: Scope) -> Response:
        """The caller's last jobs of all replicas, oldest first. Raises Problem."""
        jobs = [job.described for job in await self._desk.of.remote(scope["state"]["client"])]
        names = await self._desk.names.remote()
        answers = await _of_all(self._whole(call_of(scope, b"", name)) for name in names)
        seen = {job["id"] for job in jobs}
        for answer in answers:
            jobs += [job for job in json.loads(answer)["data"] if job["id"] not in seen]
        jobs.sort(key=lambda job: job["created"])
        return JSONResponse({"object": "list", "data": jobs[-MOST_LISTED:]})

    async def _whole(self, call: Call) -> bytes:
        """The body that a replica answers with. Raises LookupError if it takes no requests any more."""
        body = b""
        async for said in self._answer(call, "", _never):
            if isinstance(said, Elsewhere):
                raise LookupError
            body += b"".join(message.get("body", b"") for message in said)
        return body

    async def _scraped(self, name: str) -> tuple[str, str]:
        found: tuple[str, str] = await self._replicas.options(multiplexed_model_id=wish(name, "")).scrape.remote()
        return found

    async def _all_metrics(self, scope: Scope) -> Response:
        """The metrics of the gate and of every replica, each with its name as a label."""
        names = await self._desk.names.remote()
        texts = dict(await _of_all(self._scraped(name) for name in names))
        accepted = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
        encode, media_type = choose_encoder(accepted)
        registry = CollectorRegistry()
        registry.register(_Labelled({"gate": text_of(self.metrics), **texts}))
        return Response(encode(registry), media_type=media_type)


class _Labelled:
    """The metrics of several, by their names, as a collector of Prometheus' library."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        """Families, each once."""
        families: dict[str, Metric] = {}
        for name, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                mine = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    mine.add_sample(sample.name, {**sample.labels, "replica": name}, sample.value)
        return families.values()


def _respond_kept(job: KeptJob, part: str) -> Response:
    """A job of the desk as its replica would tell it. Raises Problem: its own, or 409 if it has no picture yet."""
    if part == "events":
        event = f"event: {job.described['state']}\ndata: {json.dumps({'job': job.described})}\n\n"
        return Response(event, media_type="text/event-stream")
    if part != "result":
        return JSONResponse(job.described)
    if job.problem is not None:
        raise job.problem
    if not job.media_type:
        raise Problem(409, "job_not_done", "The job is not done yet. Ask again.", retry_after=1)
    return Response(job.data, media_type=job.media_type)


def _is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


async def _rest(said: AsyncIterator[Said]) -> None:
    with contextlib.suppress(RayError):
        async for _ in said:
            pass


async def _of_all(asked: Iterable[Coroutine[Any, Any, Found]]) -> list[Found]:
    """What those say that answer in time.

    Each is asked in a context of its own: by one of Serve's, all of them would be the same request, and one would be
    sent.
    """
    tasks = [asyncio.create_task(each, context=contextvars.Context()) for each in asked]
    if not tasks:
        return []
    done, late = await asyncio.wait(tasks, timeout=_SCRAPE_SECONDS)
    for task in late:
        task.cancel()
    return [task.result() for task in tasks if task in done and task.exception() is None]


async def _body(receive: Receive) -> bytes:
    """All of a request's body: the guard has it in memory, and has bounded it."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return b"".join(parts)


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def _live(receive: Receive, send: Send) -> None:
    """ASGI's lifespan: there is nothing to begin or end here."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
