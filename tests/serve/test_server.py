"""The server as a process: what it prints, how signals end it, and what it needs to begin."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixrt.errors import OptionError
from pixrt.options.serve import ServeOptions
from pixrt.serve.guard.keys import new_key
from pixrt.serve.server import check_files, run
from serving import PICTURE

SUPPORT = Path(__file__).parent.parent / "support"
FORM: dict[str, Any] = {"data": {"prompt": "a wish"}, "files": {"image": PICTURE}}


@contextmanager
def served(seconds: float, **options: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves fakes, which take so many seconds each, and its address."""
    command = [sys.executable, str(SUPPORT / "serve_fakes.py"), str(seconds), json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def log_of(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What the process, which has ended, has logged."""
    assert process.stderr is not None
    return [json.loads(line) for line in process.stderr if line.startswith("{")]


async def ready(client: httpx.AsyncClient) -> int:
    """The status of a new connection's probe."""
    async with httpx.AsyncClient(base_url=client.base_url) as own:
        return (await own.get("/health/ready")).status_code


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_accepted(kind: signal.Signals) -> None:
    """8 pictures accepted, one of them running; then: not ready at once, nothing new, all 8 finished, status 0."""
    with served(0.15) as (process, address):

        async def work() -> list[int]:
            async with httpx.AsyncClient(base_url=address, timeout=20) as client:
                assert await ready(client) == 200
                edits = [asyncio.create_task(client.post("/v1/images/edits", **FORM)) for _ in range(8)]
                await asyncio.sleep(0.3)
                process.send_signal(kind)
                await asyncio.sleep(0.1)
                assert await ready(client) == 503
                assert (await client.get("/health/live")).status_code == 200
                refused = await client.post("/v1/images/edits", **FORM)
                assert (refused.status_code, refused.headers["x-should-retry"]) == (503, "true")
                return [answer.status_code for answer in await asyncio.gather(*edits)]

        assert asyncio.run(work()) == [200] * 8
        assert process.wait(timeout=10) == 0
        assert [line["event"] for line in log_of(process) if line["event"] != "request"] == [
            "listening",
            "draining",
            "stopped",
        ]


def test_a_second_signal_ends_at_once() -> None:
    with served(60) as (process, address):

        async def work() -> None:
            async with httpx.AsyncClient(base_url=address, timeout=20) as client:
                edit = asyncio.create_task(client.post("/v1/images/edits", **FORM))
                await asyncio.sleep(0.2)
                process.send_signal(signal.SIGTERM)
                while await ready(client) == 200:
                    await asyncio.sleep(0.01)
                process.send_signal(signal.SIGTERM)
                await asyncio.gather(edit, return_exceptions=True)

        asyncio.run(work())
        assert process.wait(timeout=10) == 130
        assert "stopped" not in [line["event"] for line in log_of(process)]


def test_what_takes_longer_than_it_may_fails_and_may_be_sent_again() -> None:
    with served(60, drain_seconds=0.2) as (process, address):

        async def work() -> httpx.Response:
            async with httpx.AsyncClient(base_url=address, timeout=20) as client:
                edit = asyncio.create_task(client.post("/v1/images/edits", **FORM))
                await asyncio.sleep(0.2)
                process.send_signal(signal.SIGTERM)
                return await edit

        answer = asyncio.run(work())
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "true")
        assert process.wait(timeout=10) == 0


def test_a_client_that_never_finishes_its_body_does_not_hold_the_end_up() -> None:
    with served(0.1, body_idle_seconds=1) as (process, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
            with socket.create_connection((host, int(port))):  # says nothing at all
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=20) == 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
def test_keys_are_read_again_by_sighup(tmp_path: Path) -> None:
    (old, first), (new, second) = new_key("anna"), new_key("ben")
    file = tmp_path / "keys"
    file.write_text(first)
    file.chmod(0o600)
    with served(0.1, keys_file=str(file)) as (process, address), httpx.Client(base_url=address) as client:

        def status(key: str) -> int:
            return client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code

        assert (status(old), status(new)) == (200, 401)
        file.write_text(second)
        assert (status(old), status(new)) == (200, 401)
        process.send_signal(signal.SIGHUP)
        _until(lambda: status(new) == 200)
        assert status(old) == 401
        file.write_text("broken")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        said = {line["event"].partition(":")[0]: line for line in log_of(process)}
        assert said["the keys file is read again"]["names"] == "ben"
        assert said["the keys stay as they were"]["level"] == "error"


def _until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("not in time")


def test_a_port_that_is_taken() -> None:
    from guarded import GuardedService

    with socket.create_server(("127.0.0.1", 0)) as other:
        service = GuardedService(ServeOptions(port=other.getsockname()[1]))
        with pytest.raises(OptionError, match=r"cannot be listened on: .*in use.*--port, or 0") as caught:
            run(None, service.real, None, print)  # type: ignore[arg-type]
    assert caught.value.option == "port"


def test_a_host_that_is_none() -> None:
    from guarded import GuardedService

    service = GuardedService(ServeOptions(host="nowhere.invalid", insecure=True))
    with pytest.raises(OptionError, match=r"of nowhere.invalid cannot be listened on"):
        run(None, service.real, None, print)  # type: ignore[arg-type]


def test_what_must_be_there_beforehand(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    with pytest.raises(OptionError, match="there is no folder"):
        check_files(ServeOptions(lora_folder=tmp_path / "loras"))
    with pytest.raises(OptionError, match=r"key\.pem cannot be read"):
        check_files(ServeOptions(c2pa_cert=file, c2pa_key=file))
    with pytest.raises(OptionError, match=r"keys file .* cannot be read"):
        check_files(ServeOptions(keys_file=tmp_path / "keys"))
    assert check_files(ServeOptions(lora_folder=tmp_path)) is None


def test_the_front_loads_no_arrays_and_no_pictures() -> None:
    """The front process only hands on: what decodes and computes is in the worker."""
    code = "import sys, pixrt.serve.app, pixrt.serve.server, pixrt.serve.service; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "fastapi" in loaded
    assert not {"numpy", "PIL", "tokenizers", "onnxruntime", "pixrt.editor", "typer"} & set(loaded)
