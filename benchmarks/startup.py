"""How long a process takes: importing pixrt, and a whole `pixrt edit` with the built-in model `shapes`.

    python benchmarks/startup.py

Whole processes, from start to exit, in turn.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

SCENE = Path(__file__).parent.parent / "examples" / "scene.png"
PIXRT = str(Path(sys.executable).with_name("pixrt"))


def main(rounds: Annotated[int, typer.Option(help="Runs of each command, after one that warms up.")] = 7) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "out.png")
        edit = [
            PIXRT,
            "edit",
            "-b",
            "shapes",
            str(SCENE),
            "make it darker",
            "-o",
            output,
            "--overwrite",
            "--seed",
            "1",
            "-q",
        ]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
            "python -c 'import pixrt'": [sys.executable, "-c", "import pixrt"],
            "pixrt --version": [PIXRT, "--version"],
            "pixrt edit, 64 px, 20 steps": edit,
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if number:
                    times[name].append(1000 * (time.perf_counter() - started))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {rounds} runs; ms")
    for name, values in times.items():
        print(f"{name:30} median {statistics.median(values):6.0f}  min {min(values):6.0f}  max {max(values):6.0f}")


if __name__ == "__main__":
    typer.run(main)
