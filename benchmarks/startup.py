"""How long a process takes: importing pixrt, and a whole `pixrt edit` with the built-in model `shapes`.

    python benchmarks/startup.py
    python benchmarks/startup.py --opening BUNDLE --rounds 3

Whole processes, from start to exit, in turn. With `--opening`: until all networks of a bundle are open, on ONNX
Runtime, and on OpenVINO without and with the networks that it compiled before.
"""

import json
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
OPENING = """
import json, sys, time
started = time.perf_counter()
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
bundle = open_bundle(sys.argv[1])
checked = time.perf_counter()
backend = open_backend(sys.argv[2], bundle).backend
needed = [name for name in Component if name in bundle.manifest.components and name is not Component.UNET_STEP]
networks = [backend.open(bundle, name) for name in needed]
opened = time.perf_counter()
from pixrt.apps.bench import peak_memory_bytes
peak = (peak_memory_bytes() or 0) / 2**20
print(json.dumps({"import and check": 1000 * (checked - started), "open": 1000 * (opened - checked), "peak MiB": peak}))
"""


def opening(bundle: str, rounds: int) -> None:
    """The networks of a bundle: a process that compiles, then those that find what it left."""
    print(f"{bundle}: {platform.machine()}, {os.cpu_count()} cores; ms")
    for backend in ("ort-cpu", "openvino"):
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "XDG_CACHE_HOME": cache}
            # The first hashes the bundle, the second only what was compiled: both are remembered.
            for number in range(rounds + 2):
                command = [sys.executable, "-c", OPENING, bundle, backend]
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                label = ("first", "second")[number] if number < 2 else "later"
                figures = "  ".join(f"{name} {figure:8.0f}" for name, figure in json.loads(done.stdout).items())
                print(f"{backend:10} {label:7} {figures}", flush=True)


def main(
    rounds: Annotated[int, typer.Option(help="Runs of each command, after one that warms up.")] = 7,
    opened: Annotated[
        str | None, typer.Option("--opening", help="A bundle: how long opening its networks takes.")
    ] = None,
) -> None:
    if opened is not None:
        opening(opened, rounds)
        return
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
