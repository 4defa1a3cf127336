"""The commands of the server's pages, run as they stand against a server that runs with its defaults."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from figures.process import Served

ROOT = Path(__file__).parent.parent.parent
PAGES = ("serving.md", "serving-interfaces.md")


def requests_of(page: str) -> list[str]:
    """The curl commands in a page's shell blocks."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("curl ")]


@pytest.mark.slow
def test_the_requests(tmp_path: Path) -> None:
    done: list[str] = []
    with Served() as server:
        address = server.address
        for page in PAGES:
            job = ""
            for command in requests_of(page):
                words = command.replace("http://127.0.0.1:8765", address).replace("/jobs/ID", f"/jobs/{job}")
                words = words.replace("curl ", "curl --fail-with-body ", 1).replace("-o ", f"-o {tmp_path}/")
                answer = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=120)
                assert answer.returncode == 0, (command, answer.stdout, answer.stderr)
                if "/v1/jobs -F" in command:
                    job = json.loads(answer.stdout)["id"]
                done.append(command)
    assert len(done) >= 8
    assert (tmp_path / "blue.png").read_bytes().startswith(b"\x89PNG")
