"""The guard over ASGI: whom it lets in, what it bounds, what it says, and that each request has one outcome."""

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from asking import ask
from guarded import GuardedService, answered, guarded
from pixrt.options.serve import ServeOptions
from pixrt.serve.app import make_app
from pixrt.serve.guard.keys import Keys, new_key
from pixrt.serve.problems import Problem
from serving import PICTURE, done, hold

EDITS = "/v1/images/edits"
# Each asks for pictures, and says what its clients read of a problem.
MAKING = {
    EDITS: lambda body: body["error"]["message"],
    "/v1/images/generations": lambda body: body["error"]["message"],
    "/v1/jobs": lambda body: body["error"]["message"],
    "/v2/models/demo/infer": lambda body: body["error"],
    "/sdapi/v1/img2img": lambda body: body["detail"],
    "/sdapi/v1/txt2img": lambda body: body["detail"],
    "/hf/image-to-image": lambda body: body["error"],
}


def form(**fields: str) -> dict[str, Any]:
    return {"data": {"prompt": "a wish", **fields}, "files": {"image": PICTURE}}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Keys, str, str]:
    """A keys file, and the keys of anna and ben."""
    (anna, first), (ben, second) = new_key("anna"), new_key("ben")
    file = tmp_path / "keys"
    file.write_text(f"{first}\n{second}\n")
    file.chmod(0o600)
    return Keys(file), anna, ben


def test_a_request_that_is_let_in() -> None:
    service = GuardedService()
    answer = ask(guarded(service), EDITS, "POST", **form())
    assert answer.status_code == 200
    assert service.accepted[0].client == "addr:127.0.0.1"
    assert answered(service) == {("openai", "200"): 1}


def test_headers_keep_browsers_strict() -> None:
    answer = ask(guarded(GuardedService()), "/v1/models")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("given", "kept"), [("abc.DEF_1-2", True), ("x" * 128, True), ("", False), ("a b", False), ("x" * 129, False)]
)
def test_request_ids(given: str, kept: bool) -> None:
    app = guarded(GuardedService())
    answers = [ask(app, "/v1/models", headers={"x-request-id": given}).headers["x-request-id"] for _ in "12"]
    assert (answers == [given] * 2) == kept
    assert len(set(answers)) == (1 if kept else 2)


@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        ({}, "127.0.0.1", 200),
        ({}, "localhost:8765", 200),
        ({}, "LOCALHOST", 200),
        ({}, "[::1]:8765", 200),
        ({}, "evil.example", 421),
        ({}, "127.0.0.1.evil.example", 421),
        ({}, "localhost:8765.evil.example", 421),
        ({"allowed_hosts": "pictures.example"}, "pictures.example:80", 200),
        ({"allowed_hosts": "pictures.example"}, "localhost", 421),
        ({"host": "0.0.0.0", "insecure": True}, "anything.example", 200),
    ],
)
def test_names_by_which_the_server_is_called(options: dict[str, Any], host: str, status: int) -> None:
    app = guarded(GuardedService(ServeOptions(**options)))
    assert ask(app, "/v1/models", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost:8765", 200),
        ("http://127.0.0.1:3000", 200),  # of this machine, too
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_sites(origin: str | None, status: int) -> None:
    """A form on any page may post here without asking: no CORS headers do not hinder that."""
    headers = {"host": "localhost:8765", **({} if origin is None else {"origin": origin})}
    service = GuardedService()
    assert ask(guarded(service), EDITS, "POST", headers=headers, **form()).status_code == status
    assert len(service.accepted) == (status == 200)


def test_a_page_of_another_site_is_refused_with_keys_too(keys: tuple[Keys, str, str]) -> None:
    service = GuardedService(ServeOptions(host="0.0.0.0", keys_file=Path("keys")))
    headers = {"host": "a.example", "origin": "https://b.example", "x-api-key": keys[1]}
    assert ask(guarded(service, keys[0]), "/v1/models", headers=headers).status_code == 403


def test_keys(keys: tuple[Keys, str, str]) -> None:
    known, anna, ben = keys
    service = GuardedService(ServeOptions(keys_file=Path("keys")))
    app = guarded(service, known)
    basic = base64.b64encode(f"whoever:{anna}".encode()).decode()
    for headers in ({"authorization": f"Bearer {anna}"}, {"x-api-key": ben}, {"authorization": f"Basic {basic}"}):
        assert ask(app, EDITS, "POST", headers=headers, **form()).status_code == 200
    assert [ticket.client for ticket in service.accepted] == ["key:anna", "key:ben", "key:anna"]
    for headers in ({}, {"authorization": f"Bearer {anna}x"}, {"authorization": f"Digest {anna}"}, {"x-api-key": ""}):
        answer = ask(app, EDITS, "POST", headers=headers, **form())
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["x-should-retry"] == "false"
        assert anna not in answer.text
    assert len(service.accepted) == 3


@pytest.mark.parametrize("open_metrics", [False, True])
def test_what_needs_no_key(keys: tuple[Keys, str, str], open_metrics: bool) -> None:
    app = guarded(GuardedService(ServeOptions(keys_file=Path("keys"), open_metrics=open_metrics)), keys[0])
    statuses = {path: ask(app, path).status_code for path in ("/health/live", "/health/ready", "/v2/health/ready")}
    assert set(statuses.values()) == {200}
    assert ask(app, "/metrics").status_code == (200 if open_metrics else 401)
    assert ask(app, "/v1/models").status_code == ask(app, "/openapi.json").status_code == 401
    assert ask(app, "/metrics", headers={"x-api-key": keys[1]}).status_code == 200


def test_the_rate_is_each_key_s_own(keys: tuple[Keys, str, str]) -> None:
    known, anna, ben = keys
    service = GuardedService(ServeOptions(keys_file=Path("keys"), rate="2/hour"))
    app = guarded(service, known)

    def edit(key: str) -> httpx.Response:
        return ask(app, EDITS, "POST", headers={"x-api-key": key}, **form())

    assert [edit(anna).status_code for _ in range(2)] == [200, 200]
    refused = edit(anna)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-should-retry"] == "true"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert "Try again in 3" in refused.json()["error"]["message"], "the whole wait is told, about 3600 s"
    assert edit(ben).status_code == 200
    assert ask(app, "/v1/models", headers={"x-api-key": anna}).status_code == 200, "only pictures count"


@pytest.mark.parametrize("path", MAKING)
def test_a_full_queue_in_every_interface_s_words(path: str) -> None:
    service = GuardedService(is_full=True)
    app = guarded(service)
    answer = ask(app, path, "POST", content=b"not even looked at")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert "Try again in 7 s" in MAKING[path](answer.json())
    assert ask(app, "/v1/models").status_code == 200


@pytest.mark.parametrize("path", MAKING)
def test_a_server_that_is_not_ready(path: str) -> None:
    answer = ask(guarded(GuardedService(is_ready=False)), path, "POST", content=b"")
    assert answer.status_code == 503
    assert "it is a fake" in MAKING[path](answer.json())
    assert answer.headers["x-should-retry"] == "true"


class Body:
    """A request driven message by message; what the application answers."""

    def __init__(self, app: Any, *chunks: bytes, method: str = "POST", headers: Any = (), pause: float = 0.0) -> None:
        self.app, self.chunks, self.method, self.pause = app, chunks, method, pause
        self.headers = [(b"host", b"localhost"), *headers]
        self.received = 0
        self.sent: list[dict[str, Any]] = []

    def run(self) -> int:
        scope = {"type": "http", "method": self.method, "path": EDITS, "headers": self.headers, "query_string": b""}
        asyncio.run(self.app({**scope, "client": ("127.0.0.1", 1)}, self.receive, self.send))
        return int(self.sent[0]["status"]) if self.sent else 0

    async def receive(self) -> dict[str, Any]:
        if self.received == len(self.chunks):
            await asyncio.sleep(self.pause)
            return {"type": "http.disconnect"}
        self.received += 1
        return {"type": "http.request", "body": self.chunks[self.received - 1], "more_body": True}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


MIB = b"\0" * (1 << 20)


def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    service = GuardedService(ServeOptions(max_body_mib=2))
    body = Body(guarded(service), MIB, headers=[(b"content-length", str((2 << 20) + 1).encode())])
    assert (body.run(), body.received) == (413, 0)


def test_a_body_that_does_not_say_how_large_it_is() -> None:
    service = GuardedService(ServeOptions(max_body_mib=2))
    body = Body(guarded(service), MIB, MIB, b"1", MIB)
    assert (body.run(), body.received) == (413, 3)
    assert answered(service) == {("openai", "413"): 1}


def test_bodies_together() -> None:
    service = GuardedService(ServeOptions(max_body_mib=64, max_uploads_mib=3))
    app = guarded(service)
    body = Body(app, MIB, MIB, MIB, b"1", MIB)
    assert (body.run(), body.received) == (429, 4)
    again = Body(app, MIB, MIB, MIB)
    assert again.run() == 0, "what was refused is not counted any more"


def test_a_body_that_pauses() -> None:
    service = GuardedService(ServeOptions(body_idle_seconds=0.05))
    body = Body(guarded(service), b"half", pause=60)
    assert body.run() == 408
    assert (b"connection", b"close") in body.sent[0]["headers"]
    assert answered(service) == {("openai", "408"): 1}


def test_a_body_that_trickles() -> None:
    """Each byte comes in time, and the whole does not."""
    service = GuardedService(ServeOptions(body_idle_seconds=10, body_seconds=0.05))
    body = Body(guarded(service), *[b"x"] * 10_000, pause=60)
    receive = body.receive

    async def slowly() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return await receive()

    body.receive = slowly  # type: ignore[method-assign]
    assert body.run() == 408
    assert body.received < 100


def test_a_client_that_leaves_before_its_body_is_whole() -> None:
    service = GuardedService()
    body = Body(guarded(service), b"half")
    assert body.run() == 0
    assert answered(service) == {("openai", "499"): 1}


def test_what_has_no_room_once_its_body_is_whole_is_not_parsed() -> None:
    """Between a request's head and the end of its body the last seat may go."""
    service = GuardedService()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("called")

    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        service.is_full = True
        return {"type": "http.request", "body": b"x"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": EDITS, "headers": [(b"host", b"localhost")]}
    asyncio.run(guarded(service, app=app)(scope, receive, send))
    assert sent[0]["status"] == 429


@pytest.mark.parametrize("apart", [0, 1, 3])  # turns of the event loop
@pytest.mark.parametrize("seats", [1, 5, 63, 64])
def test_as_many_seats_as_there_are_are_given_at_once(seats: int, apart: int) -> None:
    """64 requests at the same time: each seat is taken, and everybody else refused before anything is parsed."""
    service = GuardedService(seats=seats, on_accepted=hold)
    app, calls = make_app(service.real), 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        await app(scope, receive, send)

    async def all_at_once() -> list[int]:
        transport = httpx.ASGITransport(guarded(service, app=counting))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = []
            for _ in range(64):
                asked.append(asyncio.ensure_future(client.post(EDITS, **form())))
                for _ in range(apart):
                    await asyncio.sleep(0)
            while sum(task.done() for task in asked) < 64 - seats or len(service.accepted) < seats:
                await asyncio.sleep(0.01)
            for ticket in service.accepted:
                done(ticket)
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    statuses = asyncio.run(asyncio.wait_for(all_at_once(), 20))
    assert (statuses.count(200), statuses.count(429)) == (seats, 64 - seats)
    assert calls == len(service.accepted) == seats


def test_an_error_of_the_application_is_told_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    service = GuardedService()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError("a secret wish")
        except ValueError as error:
            raise RuntimeError("of a client") from error

    with caplog.at_level(logging.INFO, "pixrt"):
        answer = ask(guarded(service, app=app), "/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_error")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert "wish" not in answer.text
    assert answered(service) == {("openai", "500"): 1}


def test_an_answer_that_breaks_off_is_no_success() -> None:
    service = GuardedService()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError

    body = Body(guarded(service, app=app), method="GET")
    assert (body.run(), [message.get("body") for message in body.sent]) == (200, [None, b"half"])
    assert answered(service) == {("openai", "500"): 1}


def test_a_problem_that_the_application_tells_of_is_handed_on() -> None:
    service = GuardedService(refuses=Problem(504, "deadline", "Too late.", "deadline_ms"))
    answer = ask(guarded(service), EDITS, "POST", **form())
    assert (answer.status_code, answer.json()["error"]["param"]) == (504, "deadline_ms")
    assert answered(service) == {("openai", "504"): 1}


@pytest.mark.parametrize(
    ("path", "interface"),
    [
        ("/v1/images/edits", "openai"),
        ("/v1/models/demo", "openai"),
        ("/v1/jobs/7/events", "jobs"),
        ("/v1/jobsearch", "other"),
        ("/v2", "kserve"),
        ("/v2/health/live", "kserve"),
        ("/v20", "other"),
        ("/sdapi/v1/progress", "a1111"),
        ("/hf/text-to-image", "huggingface"),
        ("/health/live", "operations"),
        ("/metrics", "operations"),
        ("/", "page"),
        ("/page/app.js", "page"),
        ("/pages", "other"),
    ],
)
def test_requests_are_counted_by_interface(path: str, interface: str) -> None:
    service = GuardedService()
    ask(guarded(service), path)
    assert {name for name, _ in answered(service)} == {interface}
