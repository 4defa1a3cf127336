"""The Hugging Face Space as a process, and Gradio's client against it.

Gradio wants other versions than the rest, so both are in an environment of their own, kept in pytest's cache; the first
run installs it. PIXRT_SPACE_PYTHON names a Python that has it already.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving_clients import installed
from shapes import BLUE, SCENE, Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SPACE = ROOT / "space"
CALLS = Path(__file__).parent / "call_space.py"


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> Path:
    """A Python that has Gradio and pixrt."""
    if named := os.environ.get("PIXRT_SPACE_PYTHON"):
        return Path(named)
    assert request.config.cache is not None
    gradio = (SPACE / "requirements.txt").read_text().splitlines()[0]
    return installed([gradio, "--editable", f"{ROOT}[cpu,serve]"], request.config.cache.mkdir("clients") / "space")


@contextmanager
def started(python: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The Space's process, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "PIXRT_SERVE_LOG_FORMAT": "json", **variables}
    command = [str(python), str(SPACE / "app.py")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip().rstrip("/")
        finally:
            process.kill()


def until_ready(address: str) -> None:
    """Return once it takes pictures: the page answers before that."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=3)) as client:
        while client.get(f"{address}/health/ready").status_code != 200:
            pass


@pytest.fixture(scope="module")
def outside() -> Iterator[socket.socket]:
    """What the Space is told is the way to the rest of the world."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(scope="module")
def space(python: Path, outside: socket.socket) -> Iterator[str]:
    """The Space, with the model of drawn scenes."""
    proxy = f"http://127.0.0.1:{outside.getsockname()[1]}"
    proxies = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1,localhost"}
    with started(python, PIXRT_SERVE_RATE="1000/minute", PIXRT_SERVE_BUNDLE="shapes", **proxies) as (process, address):
        until_ready(address)
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def called(python: Path, address: str, folder: Path, *edits: list[Any]) -> list[dict[str, str]]:
    """What `/edit` answers to these arguments, each from a client of its own, all at once."""
    given = json.dumps([[str(SCENE), *edit] for edit in edits])
    said = subprocess.run(
        [str(python), str(CALLS), address, str(folder), given], capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    answers: list[dict[str, str]] = json.loads(said.stdout.splitlines()[-1])
    return answers


def same(one: Path, other: Path) -> bool:
    """Whether every pixel is."""
    return np.array_equal(*(np.asarray(Image.open(path).convert("RGB")) for path in (one, other)))


def test_gradios_client_gets_what_pixrt_edit_makes(space: str, python: Path, run: Run, tmp_path: Path) -> None:
    """Two clients at once, one with options; both PNGs say how they were made."""
    first, second = called(python, space, tmp_path, [BLUE, 4], [BLUE, 5, {"steps": 3, "guidance_scale": 1.5}])
    assert run("edit", "scene.png", BLUE, "-o", "4.png", "--seed", 4).code == 0
    assert run("edit", "scene.png", BLUE, "-o", "5.png", "--seed", 5, "--steps", 3, "--guidance-scale", 1.5).code == 0
    assert same(Path(first["picture"]), tmp_path / "4.png")
    assert same(Path(second["picture"]), tmp_path / "5.png")
    (tmp_path / "again.png").write_bytes(Path(second["picture"]).read_bytes())
    assert run("edit", "scene.png", "--from", "again.png", "-o", "6.png").code == 0
    assert same(tmp_path / "6.png", tmp_path / "5.png")


def test_what_is_wrong_is_said_in_pixrts_words(space: str, python: Path, tmp_path: Path) -> None:
    for wrong, words in (({"steps": 0}, "steps is 0"), ({"stesp": 3}, "Did you mean steps"), ({"n": 3}, "")):
        (answer,) = called(python, space, tmp_path, [BLUE, 4, wrong])
        assert words in answer.get("error", ""), answer


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", ""])
def test_a_file_that_was_not_sent_is_not_read(space: str, path: str) -> None:
    with httpx.Client(base_url=space, timeout=30) as client:
        for meta in ({}, {"meta": {"_type": "gradio.FileData"}}):
            asked = client.post("/gradio_api/call/edit", json={"data": [{"path": path, **meta}, BLUE, 4, None]})
            answer = client.get(f"/gradio_api/call/edit/{asked.json()['event_id']}")
            assert answer.text.startswith("event: error")


def test_the_page_answers_and_huggingface_may_frame_it(space: str) -> None:
    with httpx.Client(base_url=space) as client:
        index = client.get("/")
        assert index.headers["content-type"].startswith("text/html")
        policy = index.headers["content-security-policy"]
        assert policy.endswith("frame-ancestors https://huggingface.co")
        assert "script-src 'self';" in policy
        files = re.findall(r'(?:src|href)="(page/[^"]+)"', index.text)
        assert files
        assert [client.get(f"/{file}").status_code for file in files] == [200] * len(files)
        assert client.head("/").headers["etag"] == index.headers["etag"]
        assert client.get("/page/none.js").status_code == 404


def test_jobs_and_the_other_interfaces_answer_and_nothing_of_operations(space: str) -> None:
    with httpx.Client(base_url=space, timeout=30) as client:
        assert client.get("/v1/schema").json()["model"]["id"] == "pixrt-shapes"
        form = {"task": "edit", "prompt": BLUE, "steps": "1"}
        job = client.post("/v1/jobs", data=form, files={"image": SCENE.read_bytes()}).json()
        with client.stream("GET", job["links"]["events"]) as events:
            assert "event: done" in "".join(events.iter_text())
        assert client.get(job["links"]["result"]).headers["content-type"] == "image/png"
        for path in ("/metrics", "/docs", "/redoc", "/openapi.json"):
            assert client.get(path).status_code == 404, path


def test_nothing_is_told_to_anybody(space: str, outside: socket.socket) -> None:
    """Gradio would tell of its start, and look for a newer version."""
    outside.settimeout(0.5)
    with pytest.raises(TimeoutError):
        outside.accept()


def test_a_visitors_rate_is_one_for_all_interfaces(python: Path, tmp_path: Path) -> None:
    """In a Space the visitor is whom the proxy in front names."""
    variables = {"PIXRT_SERVE_RATE": "2/minute", "SPACE_ID": "me/space", "PIXRT_SERVE_BACKEND": "null"}
    with started(python, **variables) as (_, address), httpx.Client(base_url=address, timeout=30) as client:
        until_ready(address)

        def status(visitor: str) -> int:
            headers = {"x-forwarded-for": visitor, "host": "me-space.hf.space"}
            form = {"task": "edit", "prompt": BLUE, "steps": "1"}
            return client.post("/v1/jobs", data=form, files={"image": SCENE.read_bytes()}, headers=headers).status_code

        assert [status("203.0.113.7"), status("1.1.1.1, 203.0.113.7"), status("203.0.113.7")] == [202, 202, 429]
        assert status("203.0.113.8") == 202
        assert "error" not in called(python, address, tmp_path, [BLUE, 4])[0]
        client.post("/v1/images/edits", data={"prompt": BLUE}, files={"image": SCENE.read_bytes()})
        assert "More than 2/minute" in called(python, address, tmp_path, [BLUE, 4])[0]["error"]


def test_a_model_that_cannot_be_opened_ends_it(python: Path) -> None:
    with started(python, PIXRT_SERVE_BUNDLE="nowhere") as (process, _):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "nowhere" in said.splitlines()[-1]


def test_the_card_names_what_the_requirements_do() -> None:
    card = (SPACE / "README.md").read_text().split("---")[1]
    said = dict(line.split(": ", 1) for line in card.splitlines() if ": " in line)
    assert f"gradio=={said['sdk_version']}" in (SPACE / "requirements.txt").read_text().splitlines()
    assert (SPACE / said["app_file"]).is_file()
    assert said["license"] == "apache-2.0"
    assert sys.version_info[:2] >= tuple(map(int, said["python_version"].strip('"').split(".")))
