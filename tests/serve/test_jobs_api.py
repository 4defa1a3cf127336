"""Jobs: accepted, followed, fetched, cancelled, forgotten."""

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest
from jsonschema import Draft202012Validator

from pixrt.options.serve import ServeOptions
from pixrt.serve.app import make_app
from pixrt.serve.interfaces import jobs
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import State
from serving import (
    CLIENT,
    MADE,
    MODEL,
    PICTURE,
    PREVIEW,
    FakeService,
    Visit,
    client_of,
    done,
    events_of,
    failing,
    hold,
    preview,
    step,
    with_previews,
)

JOBS = "/v1/jobs"
EDIT = {"task": "edit", "prompt": "make it red", "image": base64.b64encode(PICTURE).decode(), "seed": 4}
Back = TypeVar("Back")


def with_client(service: FakeService, use: Callable[[httpx.AsyncClient], Awaitable[Back]]) -> Back:
    async def used() -> Back:
        async with client_of(make_app(service)) as client:
            return await use(client)

    return asyncio.run(used())


def test_from_acceptance_to_the_picture() -> None:
    service = FakeService(on_accepted=hold)

    async def use(client: httpx.AsyncClient) -> None:
        answer = await client.post(JOBS, json={**EDIT, "output_format": "jpeg", "user": "u"})
        assert (answer.status_code, answer.headers["location"]) == (202, "/v1/jobs/t1")
        job, (ticket,) = answer.json(), service.accepted
        told = {name: job[name] for name in ("id", "object", "task", "prompt", "seed", "state", "place", "user")}
        assert told == {
            **{"id": "t1", "object": "job", "task": "edit", "prompt": "make it red", "seed": 4},
            **{"state": "queued", "place": 0, "user": "u"},
        }
        assert (job["predicted_start"], job["predicted_end"]) == (ticket.prediction.start, ticket.prediction.end)
        assert job["links"] == {name: f"/v1/jobs/t1{path}" for name, path in LINKS.items()}
        assert (job["result"], job["expires"]) == (None, None)

        early = await client.get(job["links"]["result"])
        assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_done")
        assert 1 <= int(early.headers["retry-after"]) <= 2

        step(ticket, 3)
        job = (await client.get(job["links"]["self"])).json()
        assert (job["state"], job["step"], job["steps"]) == ("running", 3, 4)

        done(ticket)
        job = (await client.get(job["links"]["self"])).json()
        assert (job["state"], job["expires"]) == ("done", job["ended"] + service.options.result_seconds)
        result = job["result"]
        assert (result["size"], result["seed"], result["media_type"], result["bytes"]) == (
            "64x48",
            4,
            "image/jpeg",
            len(MADE),
        )
        picture = await client.get(job["links"]["result"])
        assert (picture.content, picture.headers["content-type"]) == (MADE, "image/jpeg")

    with_client(service, use)


LINKS = {"self": "", "events": "/events", "result": "/result"}


def test_as_a_form() -> None:
    service = FakeService()
    files = {"image": ("p.png", PICTURE), "style": ("s.png", b"a style")}
    data = {"task": "style", "style_interval": "0 0.5"}
    answer = with_client(service, lambda client: client.post(JOBS, data=data, files=files))
    assert answer.status_code == 202, answer.text
    asked = service.asked[0]
    assert (asked.image, asked.style, asked.options.task) == (PICTURE, b"a style", "style")


def test_several_pictures_are_a_job_each() -> None:
    service = FakeService(on_accepted=hold)
    body = with_client(service, lambda client: client.post(JOBS, json={**EDIT, "n": 3})).json()
    assert [job["id"] for job in body["jobs"]] == ["t1", "t2", "t3"]
    assert [job["seed"] for job in body["jobs"]] == [4, 5, 6]
    assert {name: body[name] for name in body["jobs"][0]} == body["jobs"][0]


def test_everybody_sees_their_own() -> None:
    service = FakeService(on_accepted=hold)

    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.post(JOBS, json=EDIT)
        theirs = Visit(make_app(service), "POST", JOBS, json.dumps(EDIT).encode(), {"content-type": "application/json"})
        await theirs.task
        assert [ticket.client for ticket in service.accepted] == ["addr:unknown", CLIENT]
        paths = ("/t2", "/t2/result", "/t2/events", "/nothing")
        answers = [await client.get(f"{JOBS}{path}") for path in paths]
        return [*answers, await client.delete(f"{JOBS}/t2"), await client.get(JOBS)]

    *others, mine = with_client(service, use)
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in others} == {(404, "job_not_found")}
    assert [job["id"] for job in mine.json()["data"]] == ["t1"]
    assert service.accepted[1].state is State.QUEUED


def test_the_last_jobs_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_LISTED", 2)

    async def use(client: httpx.AsyncClient) -> list[str]:
        for _ in range(3):
            await client.post(JOBS, json=EDIT)
        return [job["id"] for job in (await client.get(JOBS)).json()["data"]]

    assert with_client(FakeService(), use) == ["t2", "t3"]


def test_results_are_kept_for_a_stated_time() -> None:
    service = FakeService(options=ServeOptions(result_seconds=100))

    async def use(client: httpx.AsyncClient) -> None:
        await client.post(JOBS, json=EDIT)
        job = (await client.get(f"{JOBS}/t1")).json()
        assert job["expires"] == job["ended"] + 100
        service.accepted[0].ended = time.time() - 101
        for path in LINKS.values():
            assert (await client.get(f"{JOBS}/t1{path}")).status_code == 404
        assert (await client.get(JOBS)).json()["data"] == []

    with_client(service, use)


def test_a_job_outlives_its_client() -> None:
    async def leave() -> None:
        service = FakeService(on_accepted=hold)
        app = make_app(service)
        headers = {"content-type": "application/json"}
        asking = Visit(app, "POST", JOBS, json.dumps(EDIT).encode(), headers)
        asking.go_away()
        await asking.task
        following = Visit(app, "GET", f"{JOBS}/t1/events")
        await following.started()
        following.go_away()
        await following.task
        assert service.accepted[0].state is State.QUEUED

    asyncio.run(leave())


class TestCancel:
    def test_one_that_waits(self) -> None:
        service = FakeService(on_accepted=hold)

        async def use(client: httpx.AsyncClient) -> None:
            await client.post(JOBS, json=EDIT)
            answer = await client.delete(f"{JOBS}/t1")
            assert (answer.status_code, answer.json()["state"], answer.json()["error"]) == (200, "cancelled", None)
            result = await client.get(f"{JOBS}/t1/result")
            assert (result.status_code, result.json()["error"]["code"]) == (410, "job_cancelled")

        with_client(service, use)

    def test_one_that_has_ended_is_forgotten(self) -> None:
        service = FakeService()

        async def use(client: httpx.AsyncClient) -> None:
            await client.post(JOBS, json=EDIT)
            assert (await client.delete(f"{JOBS}/t1")).json()["state"] == "done"
            assert (await client.get(f"{JOBS}/t1/result")).status_code == 404

        with_client(service, use)


def test_one_that_fails_says_why_each_time() -> None:
    problem = Problem(507, "out_of_memory", "No memory.")
    service = FakeService(on_accepted=failing(problem))

    async def use(client: httpx.AsyncClient) -> None:
        job = (await client.post(JOBS, json=EDIT)).json()
        assert (job["state"], job["error"]["code"]) == ("failed", "out_of_memory")
        for _ in range(2):
            answer = await client.get(f"{JOBS}/t1/result")
            assert (answer.status_code, answer.json()["error"]["code"]) == (507, "out_of_memory")

    with_client(service, use)
    assert problem.__traceback__ is None  # or it would hold the frames of every request that has asked


class TestEvents:
    def test_from_the_queue_to_the_result(self) -> None:
        service = FakeService(on_accepted=with_previews)

        async def use(client: httpx.AsyncClient) -> httpx.Response:
            await client.post(JOBS, json={**EDIT, "partial_images": 2})
            return await client.get(f"{JOBS}/t1/events")

        answer = with_client(service, use)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer.text)
        names = [event.event for event in events]
        assert names == ["queued", "step", "preview", "step", "preview", "step", "done"]
        assert [int(event.id) for event in events] == sorted({int(event.id) for event in events})
        assert base64.b64decode(events[4].data["b64_json"]) == PREVIEW + b"\x02"
        assert (events[4].data["step"], events[4].data["media_type"]) == (2, "image/png")
        assert (events[-1].data["job"]["state"], events[-1].data["job"]["result"]["size"]) == ("done", "64x48")

    def test_after_the_last_that_the_client_has(self) -> None:
        service = FakeService(on_accepted=with_previews)

        async def use(client: httpx.AsyncClient) -> tuple[str, list[httpx.Response]]:
            await client.post(JOBS, json={**EDIT, "partial_images": 2})
            whole = (await client.get(f"{JOBS}/t1/events")).text
            ids = [event.id for event in events_of(whole)]
            return whole, [await client.get(f"{JOBS}/t1/events", headers={"last-event-id": id}) for id in ids]

        whole, answers = with_client(service, use)
        events = events_of(whole)
        for index, answer in enumerate(answers[:-1]):
            assert events_of(answer.text) == events[index + 1 :]
        assert (answers[-1].status_code, answers[-1].content) == (204, b"")  # a browser does not ask again

    @pytest.mark.parametrize("id", ["x", "-1", "1.5"])
    def test_what_is_no_event(self, id: str) -> None:
        async def use(client: httpx.AsyncClient) -> httpx.Response:
            await client.post(JOBS, json=EDIT)
            return await client.get(f"{JOBS}/t1/events", headers={"last-event-id": id})

        answer = with_client(FakeService(), use)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "last-event-id")

    def test_as_they_happen_to_several_at_once(self) -> None:
        async def follow() -> None:
            service = FakeService(on_accepted=hold)
            app = make_app(service)
            body, headers = json.dumps(EDIT).encode(), {"content-type": "application/json"}
            await Visit(app, "POST", JOBS, body, headers).task
            (ticket,) = service.accepted
            visits = [Visit(app, "GET", f"{JOBS}/t1/events") for _ in range(3)]
            for happen, count in ((lambda: step(ticket, 1), 2), (lambda: preview(ticket, 1), 3)):
                happen()
                for visit in visits:
                    while len(events_of(visit.text)) < count:
                        await asyncio.sleep(0)
            visits[0].go_away()
            await visits[0].task
            done(ticket)
            for visit in visits[1:]:
                await visit.task
                assert [event.event for event in events_of(visit.text)] == ["queued", "step", "preview", "done"]
            assert len(events_of(visits[0].text)) == 3

        asyncio.run(follow())

    def test_of_one_that_fails(self) -> None:
        service = FakeService(on_accepted=failing(Problem(400, "invalid_image", "It is broken.", "image")))

        async def use(client: httpx.AsyncClient) -> str:
            await client.post(JOBS, json=EDIT)
            return (await client.get(f"{JOBS}/t1/events")).text

        last = events_of(with_client(service, use))[-1]
        assert (last.event, last.data["code"], last.data["status"]) == ("failed", "invalid_image", 400)
        assert last.data["job"]["error"]["param"] == "image"


def test_the_schema_is_what_a_page_needs() -> None:
    service = FakeService(model=dataclasses.replace(MODEL, loras=("watercolour",)))
    body: dict[str, Any] = with_client(service, lambda client: client.get("/v1/schema")).json()
    assert (body["model"]["id"], body["model"]["notice"]) == ("demo", "For tests.")
    assert list(body["tasks"]) == list(MODEL.tasks)
    assert (body["tasks"]["edit"]["needs"], body["tasks"]["edit"]["may_have"]) == (["image"], ["mask"])
    for schema in (body["request"], *(task["options"] for task in body["tasks"].values())):
        Draft202012Validator.check_schema(schema)
    assert {"prompt", "n", "output_format", "partial_images", "deadline_ms"} <= body["request"]["properties"].keys()
    assert body["loras"] == list(service.loras)
    assert body["result_seconds"] == service.options.result_seconds
