"""The log: a line each that programs read, and nothing in it of what clients send."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from asking import ask
from guarded import GuardedService, guarded
from pixrt.serve.logs import Formatter, configure, tell
from serving import PICTURE


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """What has been logged, as JSON reads it; and the same lines as text."""

    def read(format: Any = "json") -> list[Any]:
        said = [Formatter(format).format(record) for record in caplog.records]
        return said if format == "text" else [json.loads(line) for line in said]

    with caplog.at_level(logging.DEBUG, "pixrt"):
        yield read


def test_a_request_is_one_line(lines: Any) -> None:
    answer = ask(
        guarded(GuardedService()),
        "/v1/images/edits?why=a+secret",
        "POST",
        data={"prompt": "a secret wish"},
        files={"image": ("secret.png", PICTURE)},
        headers={"x-request-id": "r-1", "authorization": "Bearer secret"},
    )
    assert answer.status_code == 200
    (line,) = lines()
    assert line.pop("ms") >= 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "id": "r-1",
        "client": "addr:127.0.0.1",
        "interface": "openai",
        "method": "POST",
        "route": "/v1/images/edits",
        "status": 200,
        "ticket": "t1",
        "pictures": 1,
        "sizes": "64x48",
    }
    (text,) = lines("text")
    assert " info request id=r-1 client=addr:127.0.0.1 interface=openai " in text
    assert "secret" not in text


def test_a_path_may_hold_anything(lines: Any) -> None:
    ask(guarded(GuardedService()), "/a/secret/wish")
    ask(guarded(GuardedService()), "/v1/jobs/secret")
    assert [line["route"] for line in lines()] == [None, "/v1/jobs/{id}"]
    assert "secret" not in str(lines())


def test_probes_are_not_told_at_the_usual_level(lines: Any) -> None:
    ask(guarded(GuardedService()), "/health/live")
    assert [line["level"] for line in lines()] == ["debug"]


def test_an_error_is_told_by_its_type_and_place(lines: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError("a secret wish")
        except ValueError as error:
            raise RuntimeError("and a secret") from error

    ask(guarded(GuardedService(), app=app), "/v1/models", headers={"x-request-id": "r-1"})
    failed, request = lines()
    assert (failed["level"], failed["event"], failed["id"], request["id"]) == ("error", "failed", "r-1", "r-1")
    assert failed["error"] == "builtins.RuntimeError from builtins.ValueError"
    assert failed["frames"][-1].endswith(" app")
    assert "secret" not in str(lines()) + str(lines("text"))


def test_what_asyncio_says_of_a_task_that_nobody_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("a secret wish")

    async def work() -> None:
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    asyncio.run(work())
    (record,) = caplog.records
    line = Formatter("json").format(record)
    assert "never retrieved" in line
    assert "ValueError" in line
    assert "secret" not in line


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_line_stays_one(format: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pixrt"):
        tell("said", {"value": 'a\nb "c"=d\x1b[31m', "empty": "", "none": None})
    (record,) = caplog.records
    line = Formatter(format).format(record)
    assert line.isprintable()
    assert (
        json.loads(line)["value"]
        if format == "json"
        else 'value="a\\nb \\"c\\"=d\\u001b[31m" empty="" none=None' in line
    )


def test_the_whole_process_logs_in_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    try:
        configure("json")
        tell("ready", {"port": 1})
        logging.getLogger("some.library").info("chatter")
        logging.getLogger("some.library").warning("a warning\nof two lines")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["event"]) for line in said] == [("info", "ready"), ("warning", "a warning")]
