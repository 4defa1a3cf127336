"""The command line as a process of its own: signals, pipes, encodings, completion."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shapes import BLUE, SCENE, files


def start(folder: Path, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from pixrt.cli import main; main()", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_edit_leaves_no_file(kind: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path, "edit", "-b", "shapes", str(SCENE), BLUE, "-o", "o.png", "--steps", "900")
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"note: ")  # printed when the bundle is open
    time.sleep(0.5)
    process.send_signal(kind)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"cancelled" in err
    assert b"Traceback" not in err
    assert not files(tmp_path)


def test_a_reader_that_leaves_does_not_stop_the_work(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(SCENE.read_bytes())
    words = ("edit", "-b", "shapes", "a.png", "b.png", "c.png", BLUE, "-o", "out")
    process = start(tmp_path, *words, "--steps", "1", "--max-batch", "1", "--json")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert (process.returncode, b"Traceback" in err) == (0, False)
    assert files(tmp_path / "out") == {"a.png", "b.png", "c.png"}


def test_a_narrow_encoding_spells_out(tmp_path: Path) -> None:
    (tmp_path / "é冬.png").write_bytes(SCENE.read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    words = ("edit", "-b", "shapes", "é冬.png", BLUE, "-o", "out", "--steps", "1", "-q")
    process = start(tmp_path, *words, env=environment)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith("out/é\\u51ac.png".encode("latin-1"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [("--scheduler eul", ["euler", "euler_ancestral"]), ("--backend ort-c", ["ort-cuda", "ort-cpu"])],
)
def test_completion_knows_the_choices(tmp_path: Path, words: str, offered: list[str]) -> None:
    environment = os.environ | {
        "_PIXRT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"pixrt edit {words}",
        "COMP_CWORD": "3",
    }
    command = [sys.executable, "-c", "from pixrt.cli.app import app; app(prog_name='pixrt')"]
    out = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.split() == offered
