"""OpenAI's images API: what comes back, streams, errors, and clients that go away."""

import asyncio
import base64
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest

from pixrt.serve.app import make_app
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import State, Ticket
from serving import (
    CLIENT,
    MADE,
    PICTURE,
    PREVIEW,
    SHA256,
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

EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"
FILE = {"image": ("p.png", PICTURE, "image/png")}
FORM = {"prompt": "make it red", "seed": "4"}
JSON = {"content-type": "application/json"}
Back = TypeVar("Back")


def with_client(service: FakeService, use: Callable[[httpx.AsyncClient], Awaitable[Back]]) -> Back:
    async def used() -> Back:
        async with client_of(make_app(service)) as client:
            return await use(client)

    return asyncio.run(used())


def edit(service: FakeService, files: Any = FILE, **fields: Any) -> httpx.Response:
    return with_client(service, lambda client: client.post(EDITS, data={**FORM, **fields}, files=files))


def generate(service: FakeService, **fields: Any) -> httpx.Response:
    return with_client(service, lambda client: client.post(GENERATIONS, json={"prompt": "a circle", **fields}))


def test_an_edit_as_the_sdk_reads_it() -> None:
    service = FakeService()
    answer = edit(service, n="2", num_inference_steps="6", user="u-17", output_format="webp")
    assert answer.status_code == 200
    body = answer.json()
    assert [base64.b64decode(each["b64_json"]) for each in body["data"]] == [MADE, MADE]
    assert body["usage"] == {
        "input_tokens": 0,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
        "output_tokens": 0,
        "total_tokens": 0,
    }
    told = {name: body[name] for name in ("output_format", "quality", "size", "background", "user")}
    assert told == {"output_format": "webp", "quality": "medium", "size": "64x48", "background": "auto", "user": "u-17"}
    assert body["safety_identifier"] == "u-17"
    assert (body["seed"], body["seeds"], body["model"], body["model_sha256"]) == (4, [4, 5], "demo", SHA256)
    first, ticket = body["data"][0], service.accepted[0]
    assert (first["seed"], first["parameters"]["steps"], first["times"]["queue_ms"]) == (4, 6, 1.0)
    assert first["notes"] == ["a note"]
    assert (first["predicted_start"], first["predicted_end"]) == (ticket.prediction.start, ticket.prediction.end)
    assert service.asked[0].image == PICTURE


def test_a_mask_goes_with_its_picture() -> None:
    service = FakeService()
    assert edit(service, files={**FILE, "mask": ("m.png", b"a mask", "image/png")}).status_code == 200
    assert service.asked[0].mask == b"a mask"


def test_a_file_that_was_not_chosen_is_none() -> None:
    """As browsers send it."""
    service = FakeService()
    parts = [
        b'name="prompt"\r\n\r\nmake it red',
        b'name="image"; filename="p.png"\r\nContent-Type: image/png\r\n\r\n' + PICTURE,
        b'name="mask"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n',
    ]
    body = b"".join(b"--x\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = with_client(service, lambda client: client.post(EDITS, content=body, headers=headers))
    assert answer.status_code == 200
    assert (service.asked[0].image, service.asked[0].mask) == (PICTURE, None)


def test_a_generation() -> None:
    service = FakeService()
    body = generate(service, seed=3, size="72x64", quality="high", output_format="jpeg", safety_identifier="s").json()
    assert (body["seed"], body["quality"], body["background"]) == (3, "high", "opaque")
    assert (body["user"], body["safety_identifier"]) == (None, "s")
    options = service.asked[0].options
    assert (options.task, options.preset) == ("generate", "quality")


def test_the_models() -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get(f"/v1/models{path}") for path in ("", "/demo", "/other")]

    listed, one, other = with_client(FakeService(), ask)
    assert [each["id"] for each in listed.json()["data"]] == ["demo"]
    assert (one.json()["object"], one.json()["sha256"], one.json()["notice"]) == ("model", SHA256, "For tests.")
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")


class TestErrors:
    def test_a_wrong_field(self) -> None:
        answer = edit(FakeService(), guidance_scal="3")
        assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
        error = answer.json()["error"]
        assert (error["type"], error["param"], error["code"]) == (
            "invalid_request_error",
            "guidance_scal",
            "unknown_parameter",
        )

    def test_the_queue_is_full(self) -> None:
        answer = edit(FakeService(is_full=True))
        assert (answer.status_code, answer.headers["retry-after"], answer.headers["x-should-retry"]) == (
            429,
            "7",
            "true",
        )
        assert answer.json()["error"]["type"] == "rate_limit_error"

    def test_the_model_is_not_loaded(self) -> None:
        answer = edit(FakeService(model=None))
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "true")

    @pytest.mark.parametrize(
        ("problem", "param"),
        [
            (Problem(415, "unsupported_image", "It is no picture.", "image"), "image"),
            (Problem(400, "invalid_value", "Too many.", "steps"), "num_inference_steps"),
            (Problem(504, "deadline", "Too late."), None),
        ],
    )
    def test_what_submit_refuses(self, problem: Problem, param: str | None) -> None:
        answer = edit(FakeService(refuses=problem), num_inference_steps="6")
        assert (answer.status_code, answer.json()["error"]["param"]) == (problem.status, param)
        assert answer.headers["x-should-retry"] == "false"

    def test_one_that_fails_takes_the_others_of_its_request_with_it(self) -> None:
        def first_fails(ticket: Ticket) -> None:
            (hold if ticket.id != "t2" else failing(Problem(507, "out_of_memory", "No memory.")))(ticket)

        service = FakeService(on_accepted=first_fails)
        answer = edit(service, n="3")
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "out_of_memory")
        assert [ticket.state for ticket in service.accepted] == [State.CANCELLED, State.FAILED, State.CANCELLED]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "invalid_json"),
            (b"{", "invalid_json"),
            (b"[]", "invalid_json"),
            (b"3", "invalid_json"),
            (b'{"seed": NaN}', "invalid_json"),
            (b'{"prompt": "\xff"}', "invalid_json"),
            (b'{"seed": ' + b"9" * 5000 + b"}", "invalid_json"),
            (b"[" * 100_000, "invalid_json"),
            (b'{"prompt": "a", "prompt": "b"}', "unknown_parameter"),
            (b'{"\\ud800": 1, "\\ud800": 2}', "unknown_parameter"),
            (b'{"\\ud800": 1}', "invalid_value"),
        ],
    )
    def test_bodies_that_are_no_json_object(self, body: bytes, code: str) -> None:
        answer = with_client(FakeService(), lambda client: client.post(GENERATIONS, content=body, headers=JSON))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)

    @pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
    def test_bodies_of_another_kind(self, kind: str) -> None:
        headers = {"content-type": kind} if kind else {}
        answer = with_client(FakeService(), lambda client: client.post(EDITS, content=b"prompt=x", headers=headers))
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (b"", "multipart/form-data"),
            (b"", "multipart/form-data; boundary=x"),
            (b"--x\r\n\r\n\r\n--x--", "multipart/form-data; boundary=x"),
            (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--", "multipart/form-data; boundary=x"),
            (b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na', "multipart/form-data; boundary=x"),
        ],
    )
    def test_broken_forms(self, body: bytes, kind: str) -> None:
        headers = {"content-type": kind}
        answer = with_client(FakeService(), lambda client: client.post(EDITS, content=body, headers=headers))
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]

    def test_too_many_parts_and_too_long_a_text(self) -> None:
        for fields in ({f"f{number}": "x" for number in range(100)}, {"negative_prompt": "x" * 200_000}):
            answer = edit(FakeService(), **fields)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


class TestStreams:
    def test_previews_then_the_picture(self) -> None:
        service = FakeService(on_accepted=with_previews)
        answer = edit(service, stream="true", partial_images="2", user="u")
        assert answer.headers["content-type"].startswith("text/event-stream")
        first, second, last = events_of(answer.text)
        assert first.event == first.data["type"] == "image_edit.partial_image"
        assert base64.b64decode(second.data["b64_json"]) == PREVIEW + b"\x02"
        told = {name: second.data[name] for name in ("partial_image_index", "step", "of", "size", "output_format")}
        assert told == {"partial_image_index": 1, "step": 2, "of": 4, "size": "auto", "output_format": "png"}
        assert last.event == last.data["type"] == "image_edit.completed"
        assert base64.b64decode(last.data["b64_json"]) == MADE
        assert {"usage", "created_at", "quality", "background", "user"} <= last.data.keys()
        assert (last.data["seed"], last.data["size"], last.data["model_sha256"]) == (4, "64x48", SHA256)

    def test_of_a_generation(self) -> None:
        answer = generate(FakeService(), stream=True, n=2, seed=1)
        events = events_of(answer.text)
        assert [event.event for event in events] == ["image_generation.completed"] * 2
        assert [(event.data["picture_index"], event.data["seed"]) for event in events] == [(0, 1), (1, 2)]

    def test_what_is_refused_is_no_stream(self) -> None:
        answer = edit(FakeService(is_full=True), stream="true")
        assert (answer.status_code, answer.headers["content-type"]) == (429, "application/json")

    def test_an_error_after_it_has_begun(self) -> None:
        def break_off(ticket: Ticket) -> None:
            preview(ticket, 1)
            failing(Problem(507, "out_of_memory", "No memory."))(ticket)

        answer = edit(FakeService(on_accepted=break_off), stream="true", partial_images="1")
        first, last = events_of(answer.text)
        assert (answer.status_code, first.event, last.event) == (200, "image_edit.partial_image", "error")
        assert last.data["error"]["code"] == "out_of_memory"


class TestAClientThatGoesAway:
    """uvicorn tells a handler only if it listens."""

    BODY = json.dumps({"prompt": "a circle", "n": 2}).encode()

    def test_before_its_answer(self, caplog: pytest.LogCaptureFixture) -> None:
        async def leave() -> None:
            service = FakeService(on_accepted=hold)
            visit = Visit(make_app(service), "POST", GENERATIONS, self.BODY, JSON)
            await visit.started()
            assert [ticket.state for ticket in service.accepted] == [State.QUEUED] * 2
            visit.go_away()
            await visit.task
            assert [ticket.state for ticket in service.accepted] == [State.CANCELLED] * 2
            assert visit.status == 499

        asyncio.run(leave())
        gc.collect()
        assert caplog.records == []  # no task of it is left, with an exception that nobody looks at

    def test_one_that_stays_is_served(self) -> None:
        async def stay() -> None:
            service = FakeService(on_accepted=hold)
            visit = Visit(make_app(service), "POST", GENERATIONS, self.BODY, JSON)
            await visit.started()
            for ticket in service.accepted:
                done(ticket)
            await visit.task
            assert visit.status == 200
            assert service.cancelled == []

        asyncio.run(stay())

    @pytest.mark.parametrize("steps", [0, 2])
    def test_during_a_stream(self, steps: int) -> None:
        async def leave() -> None:
            service = FakeService(on_accepted=hold)
            body = json.dumps({"prompt": "a circle", "n": 2, "stream": True, "partial_images": 3}).encode()
            visit = Visit(make_app(service), "POST", GENERATIONS, body, JSON)
            await visit.started()
            for number in range(1, steps + 1):
                step(service.accepted[0], number)
                preview(service.accepted[0], number)
            while len(events_of(visit.text)) < steps:
                await asyncio.sleep(0)
            visit.go_away()
            await visit.task
            assert [ticket.state for ticket in service.accepted] == [State.CANCELLED] * 2

        asyncio.run(leave())

    def test_before_the_stream_begins(self) -> None:
        async def leave() -> None:
            service = FakeService(on_accepted=hold)
            body = json.dumps({"prompt": "a circle", "stream": True}).encode()
            visit = Visit(make_app(service), "POST", GENERATIONS, body, JSON)
            visit.go_away()
            await visit.task
            assert [ticket.state for ticket in service.accepted] == [State.CANCELLED]

        asyncio.run(leave())

    def test_while_it_sends(self) -> None:
        async def leave() -> None:
            service = FakeService()
            visit = Visit(make_app(service), "POST", GENERATIONS, self.BODY, JSON, leaves_at_once=True)
            await visit.task
            assert (visit.status, service.accepted) == (499, [])

        asyncio.run(leave())


def test_the_guard_says_whose_tickets_they_are() -> None:
    async def visit() -> None:
        service = FakeService()
        body = json.dumps({"prompt": "a circle"}).encode()
        await Visit(make_app(service), "POST", GENERATIONS, body, JSON).task
        assert [ticket.client for ticket in service.accepted] == [CLIENT]

    asyncio.run(visit())
