"""`pixrt ui`: a server of its own, whose key nobody else learns, and a browser that is led to it."""

import os
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pixrt.cli import extras
from pixrt.cli.browser import Door, has_browser, show
from shapes import Run

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
# Says what it was started with, and follows it as a browser does.
BROWSER = """import sys, urllib.request
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given): return None
try: urllib.request.build_opener(Stay).open(sys.argv[2])
except urllib.error.HTTPError as answer:
    print(sys.argv[2], answer.code, answer.headers["Location"], file=open(sys.argv[1], "w"), flush=True)
"""


@contextmanager
def ui(folder: Path, *words: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command as a process, and the address that it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in SCREENS}
    with subprocess.Popen(
        [sys.executable, "-m", "pixrt", "ui", "--backend", "null", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=kept | environment,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def _told(file: Path) -> list[str]:
    for _ in range(300):
        if file.exists() and (words := file.read_text().split()):
            return words
        time.sleep(0.1)
    raise AssertionError("no browser was opened")


def arguments_of_all() -> str:
    """What every user of the machine sees of processes."""
    return "".join(path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if _is_there(path))


def _is_there(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("interruptible")
def test_the_browser_is_led_to_the_page(tmp_path: Path) -> None:
    (tmp_path / "browser.py").write_text(BROWSER)
    with ui(tmp_path, BROWSER=f"{sys.executable} {tmp_path}/browser.py {tmp_path}/told %s") as (process, page):
        address, _, key = page.partition("/#key=")
        assert address.startswith("http://127.0.0.1:")
        assert len(key) > 40
        told = _told(tmp_path / "told")
        assert told[1:] == ["302", page]
        assert key not in told[0]
        assert key not in arguments_of_all()
        with httpx.Client(base_url=address) as client:
            assert client.get("/").status_code == 200
            assert client.get("/v1/schema").status_code == 401
            mine = {"authorization": f"Bearer {key}"}
            assert client.get("/v1/schema", headers=mine).status_code == 200
            assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        process.send_signal(signal.SIGINT)
        out, log = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "")
        assert key not in log
        assert "opening it in the browser" in log
        assert " info " not in log


@pytest.mark.usefixtures("interruptible")
def test_without_a_browser_it_says_what_to_open(tmp_path: Path) -> None:
    """Settings of a server that others use have no say."""
    others = {"PIXRT_SERVE_HOST": "0.0.0.0", "PIXRT_SERVE_INSECURE": "true", "PIXRT_SERVE_ALLOWED_HOSTS": "*"}
    with ui(tmp_path, "demo", PIXRT_SERVE_PORT="1", PIXRT_SERVE_KEYS_FILE="none", **others) as (process, page):
        address, _, key = page.partition("/#key=")
        assert address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{address}/v1/models", headers={"x-api-key": key}).status_code == 200
        assert httpx.get(address, headers={"host": "evil.example"}).status_code == 421
        process.send_signal(signal.SIGHUP)  # its terminal is closed: nobody would know of it any more
        log = process.communicate(timeout=120)[1]
        assert process.returncode == 0
        assert "no browser was found: open this address in one" in log
        assert key not in log


def test_what_is_wrong_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("ui", "nowhere", "--no-browser").code == 4
    assert run("ui", "--no-browser", "--lora-folder", "none").code == 2
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    outcome = run("ui", "--no-browser")
    assert outcome.code == 10
    assert "pixrt[serve]" in outcome.err


PAGE = "http://127.0.0.1:1/#key=secret"


def test_a_door_is_for_one_visit() -> None:
    door = Door(PAGE)
    assert "secret" not in door.address
    first = httpx.get(door.address)
    assert (first.status_code, first.headers["location"]) == (302, PAGE)
    assert first.headers["cache-control"] == "no-store"
    second = httpx.get(door.address)
    assert (second.status_code, "location" in second.headers) == (410, False)
    assert "secret" not in second.text
    door._close()


def test_a_door_is_for_who_knows_it() -> None:
    door = Door(PAGE)
    for path in ("/", "/favicon.ico", "/" + "a" * 43, door.address[:-1], "/\u00e9"):
        assert httpx.get(httpx.URL(door.address).join(path)).status_code == 410, path
    assert httpx.get(door.address, headers={"host": "evil.example"}).status_code == 410
    assert httpx.head(door.address).status_code == 501
    assert httpx.post(door.address).status_code == 501
    assert httpx.get(door.address).status_code == 302
    door._close()


def test_a_door_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixrt.cli.browser._OPEN_SECONDS", 0.05)
    before = set(threading.enumerate())
    door = Door(PAGE)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    with pytest.raises(httpx.ConnectError):
        httpx.get(door.address)


def test_a_browser_is_not_given_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or False)
    assert not show(PAGE)
    assert "secret" not in opened[0]


@pytest.mark.parametrize(
    ("environment", "platform", "found", "is_there"),
    [
        ({}, "linux", webbrowser.BackgroundBrowser("x"), False),
        ({"DISPLAY": ":0"}, "linux", webbrowser.BackgroundBrowser("x"), True),
        ({"WAYLAND_DISPLAY": "w"}, "linux", webbrowser.BackgroundBrowser("x"), True),
        ({"DISPLAY": ":0"}, "linux", webbrowser.GenericBrowser("lynx"), False),
        ({"BROWSER": "lynx"}, "linux", webbrowser.GenericBrowser("lynx"), True),
        ({"DISPLAY": ":0"}, "linux", None, False),
        ({}, "darwin", webbrowser.BackgroundBrowser("x"), True),
    ],
)
def test_which_browsers_are_one(
    environment: dict[str, str],
    platform: str,
    found: webbrowser.BaseBrowser | None,
    is_there: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get() -> webbrowser.BaseBrowser:
        if found is None:
            raise webbrowser.Error
        return found

    for name in SCREENS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(webbrowser, "get", get)
    assert has_browser() == is_there
