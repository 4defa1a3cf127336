"""Signals: within a network's run, while modules are imported, twice, and where they are ignored. And forks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pixrt import Editor
from pixrt.errors import PixrtError
from shapes import BLUE, SCENE, files

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
pytestmark = pytest.mark.usefixtures("interruptible")


def start(folder: Path, *words: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from pixrt.cli import main; main()", *map(str, words)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


STEPPING = """
import sys, time
from pixrt.core.pool import HostPool
step = HostPool.step

def telling(self, slots=None):
    print("stepping", file=sys.stderr, flush=True)
    HostPool.step = step
    return step(self, slots)

HostPool.step = telling
"""
MAIN = "from pixrt.cli import main; main()"


def start_stepping(folder: Path, code: str = "") -> subprocess.Popen[bytes]:
    """A long edit, when its first step begins."""
    words = ["edit", "-b", "shapes", str(SCENE), BLUE, "-o", "o.png", "--steps", "900"]
    command = [sys.executable, "-c", STEPPING + code + MAIN, *words]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    wait_for(process, b"stepping")
    return process


def wait_for(process: subprocess.Popen[bytes], words: bytes) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"it ended with {process.wait()} and without {words!r}")


def require_cancelled(process: subprocess.Popen[bytes], timeout: float = 60) -> str:
    _, err = process.communicate(timeout=timeout)
    assert process.returncode == 130, err
    assert err.decode().splitlines()[-1].startswith("error: cancelled")
    assert b"Traceback" not in err
    return err.decode()


# From when the command line hears of signals, to the middle of the libraries' own imports.
AT = {"the command line": "typer", "NumPy": "numpy", "Pillow": "PIL.Image", "ONNX Runtime": "onnxruntime"}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", AT.values(), ids=AT.keys())
def test_while_modules_are_imported(number: signal.Signals, module: str, tmp_path: Path) -> None:
    """The signal comes from within the import itself, so the moment is that one."""
    code = f"""
import os, sys

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})

sys.meta_path.insert(0, Signalling())
from pixrt.cli import main
main()
"""
    words = ["edit", "-b", "shapes", str(SCENE), BLUE, "-o", "o.png", "--steps", "1"]
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=tmp_path, stderr=subprocess.PIPE)
    require_cancelled(process)
    assert not files(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_one_that_is_ignored_stays_so(number: signal.Signals, tmp_path: Path) -> None:
    """As by nohup, and in the background of a script."""
    process = start(
        tmp_path,
        *("edit", "-b", "shapes", SCENE, BLUE, "-o", "o.png", "--steps", 40),
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    assert process.stderr is not None
    process.stderr.readline()  # printed when the bundle is open
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert files(tmp_path) == {"o.png"}


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_within_the_run_of_a_network(number: signal.Signals, tmp_path: Path) -> None:
    """A step takes seconds here; the stop does not wait for its end."""
    words = (
        *("edit", "-b", "shapes", SCENE, BLUE),
        *("--resolution", 320, "--threads", 1, "--guidance-scale", 1, "--image-guidance-scale", 1),
    )
    out, _ = start(tmp_path, *words, "-o", "once.png", "--steps", 2, "--json").communicate(timeout=300)
    step_s = json.loads(out)["times"]["denoise_ms"] / 2000
    process = start(tmp_path, *words, "-o", "o.png", "--steps", 200)
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(1 + 2.3 * step_s)
    started = time.perf_counter()
    process.send_signal(number)
    require_cancelled(process)
    assert time.perf_counter() - started < 0.5 + 0.5 * step_s
    assert files(tmp_path) == {"once.png"}


def test_a_second_one_ends_the_process_at_once(tmp_path: Path) -> None:
    """What the first has begun to clean up may hang."""
    code = """
from pixrt.editor.runner import Runner

def hang(self):
    print("hanging", file=sys.stderr, flush=True)
    time.sleep(600)

Runner.close = hang
"""
    process = start_stepping(tmp_path, code)
    process.send_signal(signal.SIGINT)
    wait_for(process, b"hanging")
    time.sleep(0.2)
    started = time.perf_counter()
    process.send_signal(signal.SIGINT)
    require_cancelled(process)
    assert time.perf_counter() - started < 5


def test_one_that_comes_twice_at_once_is_one(tmp_path: Path) -> None:
    """A launcher passes on the Ctrl-C that its child has had too: what is cleaned up is not interrupted."""
    process = start_stepping(tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    require_cancelled(process)
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("times", "apart_s", "said"), [(1, 0, "asked"), (2, 0, "asked"), (2, 0.3, "interrupted"), (3, 0.3, "")]
)
def test_training_is_asked_first(times: int, apart_s: float, said: str) -> None:
    """The first one stops after the step, the second at once, a third one ends the process."""
    code = f"""
import os, signal, time
from pixrt.cli.stopping import asking_first, watching
with watching(for_good=True), asking_first() as asked:
    try:
        try:
            for _ in range({times}):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep({apart_s})
            time.sleep(0.3)
            print("asked" if asked() else "nothing")
        except KeyboardInterrupt:
            if {times} < 3:
                raise
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == said
    assert done.returncode == (130 if times == 3 else 0)
    assert "stopping after this step" in done.stderr


def test_an_editor_after_a_fork_says_so(editor: Editor) -> None:
    """It would wait for ever for a lock that somebody held, or for threads that are not in the copy."""
    editor.edit(SCENE, BLUE, steps=1)
    reader, writer = os.pipe()
    with editor._turn():  # another thread's, in the parent
        child = os.fork()
        if child == 0:
            try:
                editor.edit(SCENE, BLUE, steps=1)
            except PixrtError as error:
                os.write(writer, str(error).encode())
            finally:
                editor.close()
                os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert f"the editor was opened by process {os.getpid()}" in said
    assert "Open an Editor in each process" in said
    editor.edit(SCENE, BLUE, steps=1)
