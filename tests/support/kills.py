"""Commands that are killed at random moments, without warning and politely."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

KILLS = 20
PIXRT = [sys.executable, "-c", "from pixrt.cli import main; main()"]


def finish(*words: object, command: list[str] = PIXRT, cwd: Path | None = None) -> float:
    """Run a command to its end, which must be good; the seconds that it took."""
    started = time.perf_counter()
    done = subprocess.run([*command, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - started


def kills(
    whole_s: float, *words: object, command: list[str] = PIXRT, cwd: Path | None = None, seed: int = 7
) -> Iterator[int]:
    """Start the command again and again and kill it, at moments spread over `whole_s` seconds; yields after each.

    Every second kill is a polite one; what it says then is a line, and its exit code the documented one. That of a
    command that has ended before is 0.
    """
    dice = random.Random(seed)
    for number in range(KILLS):
        process = subprocess.Popen([*command, *map(str, words)], cwd=cwd, stderr=subprocess.PIPE)
        # All the way, the parts in which the most is written more often than the imports.
        polite, started = number % 2 == 1, time.perf_counter()
        try:
            process.wait(whole_s * dice.triangular(0.1, 1.0, 0.9))
            whole_s = min(whole_s, time.perf_counter() - started)  # the machine has less to do now
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM if polite else signal.SIGKILL)
        _, err = process.communicate(timeout=600)
        expected = (0, 130, -signal.SIGTERM) if polite else (0, -signal.SIGKILL)
        assert process.returncode in expected, err.decode()
        assert b"Traceback" not in err, err.decode()
        yield number


def remains(folder: Path, is_part: Callable[[str], bool] = lambda name: name.endswith((".tmp", "-old"))) -> list[str]:
    """What killed commands left, below a folder."""
    return [
        str(Path(here, name)) for here, *both in os.walk(folder) for names in both for name in names if is_part(name)
    ]
