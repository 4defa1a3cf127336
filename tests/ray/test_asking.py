"""A request's way to a replica, and how the answers of several become one. Without Ray."""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send

from pixrt.ray import gathering
from pixrt.ray.asking import Asked, answer, asked_of
from pixrt.ray.floor import Floor
from pixrt.ray.policy import predicted_ms, wanted
from pixrt.serve.metrics import Metrics
from pixrt.serve.settings import read_settings

EDIT = Asked("POST", "/v1/images/edits", b"", (), b"", "addr:1", "id")


def answered(app: Callable[[Scope, Receive, Send], Awaitable[None]], asked: Asked = EDIT) -> list[Message]:
    async def all_of() -> list[Message]:
        return [message async for message in answer(app, asked)]

    return asyncio.run(all_of())


def test_a_request_arrives_as_it_was_let_in() -> None:
    heard: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.update(scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    state = {"client": "key:anna", "request_id": "r1"}
    headers = [(b"content-type", b"text/plain")]
    scope = {"method": "POST", "path": "/v1/jobs", "query_string": b"a=1", "headers": headers, "state": state}
    messages = answered(app, asked_of(scope, b"the body"))
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert (heard["path"], heard["query_string"], heard["headers"]) == ("/v1/jobs", b"a=1", headers)
    assert (heard["body"], heard["state"]["client"]) == (b"the body", "key:anna")


def test_more_messages_than_are_held_at_once_all_come() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for number in range(50):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})

    assert b"".join(message["body"] for message in answered(app)) == b"".join(b"%d" % each for each in range(50))


def test_what_an_application_raises_is_raised() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        answered(app)


def test_who_leaves_cancels_the_application() -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await receive()
            await receive()
        finally:
            ended.set()

    async def leave() -> None:
        messages = answer(app, EDIT)
        await anext(messages)
        await messages.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(leave())


def test_loras_are_seen_in_a_form() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="lora"\r\n\r\n%s\r\n'
    asked = dataclasses.replace(EDIT, body=part % b"sketch:0.8" + part % b"ink")
    assert asked.loras == {"sketch", "ink"}
    assert asked.is_for_pictures
    assert not dataclasses.replace(EDIT, method="GET").is_for_pictures


def test_a_picture_goes_where_it_is_done_first() -> None:
    busy = {"at": 100.0, "work_ms": 900.0, "picture_ms": 300.0, "loras": [["ink"]], "load_ms": 5000.0}
    idle = {**busy, "work_ms": 0.0, "loras": []}
    assert predicted_ms(idle, [], frozenset()) == 0
    assert predicted_ms(idle, [99.0, 100.5, 101.0], frozenset()) == 600, "sent since, not those that it knows of"
    assert predicted_ms(busy, [], frozenset({"ink"})) < predicted_ms(idle, [], frozenset({"ink"}))
    assert predicted_ms({}, [1.0], frozenset()) > 0, "a replica that has said nothing yet"
    assert predicted_ms({**idle, "is_ready": False}, [], frozenset()) > predicted_ms(busy, [], frozenset())


@pytest.mark.parametrize(("work_ms", "replicas"), [(0, 1), (10_000, 1), (10_001, 2), (95_000, 10)])
def test_replicas_by_queued_work(work_ms: float, replicas: int) -> None:
    assert wanted(work_ms, 10_000) == replicas


def test_jobs_of_all_replicas_are_one_list() -> None:
    gather = gathering.of(Asked("GET", "/v1/jobs", b"", (), b"", "addr:1", "id"))
    assert gather is not None
    answers = [
        (
            "a",
            200,
            json.dumps({"object": "list", "data": [{"id": "a-1", "created": 1}, {"id": "a-3", "created": 3}]}).encode(),
        ),
        ("b", 200, json.dumps({"object": "list", "data": [{"id": "b-2", "created": 2}]}).encode()),
        ("c", 503, b"{}"),
    ]
    status, _, body = gather(answers)
    assert (status, [job["id"] for job in json.loads(body)["data"]]) == (200, ["a-1", "b-2", "a-3"])


def test_metrics_say_which_replica() -> None:
    gather = gathering.of(Asked("GET", "/metrics", b"", (), b"", "addr:1", "id"))
    assert gather is not None
    text = b"# HELP pixrt_slots Slots.\n# TYPE pixrt_slots gauge\npixrt_slots 8.0\n"
    _, _, body = gather([("a", 200, text), ("b", 200, text)])
    (family,) = text_string_to_metric_families(body.decode())
    assert {sample.labels["replica"]: sample.value for sample in family.samples} == {"a": 8.0, "b": 8.0}


def test_one_answer_is_of_one_replica() -> None:
    assert gathering.of(EDIT) is None
    assert gathering.of(dataclasses.replace(EDIT, path="/v1/jobs")) is None


def test_there_is_no_room_without_replicas() -> None:
    floor = Floor(read_settings({}), Metrics())
    assert (floor.is_ready, floor.free, floor.names) == (False, 0, [])
    assert floor.why_not_ready == "no replica is ready"
