"""What a GPU does with a bundle: builds its engines, holds the pictures against the CPU's, measures, writes one report.

    python benchmarks/gpu_report.py BUNDLE [--size 512x512] [--library tensorrt] [-o gpu-report.json]

needs an NVIDIA GPU, `pixrt[tensorrt]` or `pixrt[tensorrt-rtx]`, and a bundle exported with `--precision fp16
--fused-step`. Nothing in the report comes from anywhere but this run. Times are medians after a warm-up of three edits;
a step's time is the device's own, between two events on its stream. `host_ms` is how long the host takes to enqueue a
step: where it is below the step's time the device never waits for the host, else it waits for the difference.
"""

import dataclasses
import json
import platform
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pixrt import Editor
from pixrt.files import atomic_write
from pixrt.store import open_bundle
from pixrt_engines import BuildOptions, run_build
from pixrt_engines.building import plan_build
from pixrt_engines.options import parse_sizes

SCHEDULERS = ("ddim", "euler_ancestral", "dpmpp_2m", "unipc")
INSTRUCTION = "make it winter"


class Quiet:
    """A listener that prints a line for each engine."""

    def on_engine(self, planned: Any) -> None:
        print(f"building {planned.name}")

    def on_wait(self, planned: Any) -> None:
        print(f"waiting for {planned.name}")

    def on_progress(self, fraction: float) -> None:
        return

    def on_built(self, built: Any) -> None:
        print(f"  {built.outcome}, {built.spec.bytes / 2**20:.1f} MiB, {built.seconds:.1f} s")


def build(bundle: Path, library: str, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Build what is missing, for the GPU at hand."""
    options = BuildOptions(bundle=str(bundle), library=library, targets=("native",), sizes=(size,))  # type: ignore[arg-type]
    built = run_build(plan_build(options), options, Quiet())
    return [
        {"file": item.spec.file, "bytes": item.spec.bytes, "seconds": item.seconds, "outcome": item.outcome}
        for item in built
    ]


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray[Any, Any]:
    """A picture of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 255, (size[1] // 16, size[0] // 16, 3), np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


def parity(bundle: Path, backend: Any, size: tuple[int, int], steps: int = 4) -> list[dict[str, Any]]:
    """The GPU's latents and pictures against ONNX Runtime's on the CPU, same bundle, same noise; and against itself."""

    def run(editor: Editor, scheduler: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        seen: list[Any] = []
        result = editor.edit(
            picture(size),
            INSTRUCTION,
            seed=1,
            steps=steps,
            scheduler=scheduler,  # type: ignore[arg-type]
            on_step=lambda info: seen.append(info.latents),
        )
        return np.stack(seen), np.asarray(result.image).astype(int)

    rows = []
    with (
        Editor(bundle, backend="ort-cpu") as cpu,
        Editor(bundle, backend=backend, fused_step=True) as fused,
        Editor(bundle, backend=backend, fused_step=False) as plain,
        Editor(bundle, backend=backend, cuda_graphs=False) as without_graphs,
    ):
        for scheduler in SCHEDULERS:
            latents, image = run(cpu, scheduler)
            first, again = run(fused, scheduler), run(fused, scheduler)
            third = run(fused, scheduler)
            row: dict[str, Any] = {"scheduler": scheduler}
            for name, (ours, our_image) in {
                "fused": first,
                "unfused": run(plain, scheduler),
                "without graphs": run(without_graphs, scheduler),
            }.items():
                row[name] = {
                    "latents": float(np.abs(ours - latents).max() / np.abs(latents).max()),
                    "picture_mean": float(np.abs(our_image - image).mean()),
                    "picture_max": int(np.abs(our_image - image).max()),
                }
            row["captured run equals the first"] = bool((again[0] == first[0]).all() and (third[0] == first[0]).all())
            rows.append(row)
    return rows


def latency(bundle: Path, backend: Any, size: tuple[int, int], steps: int, repeats: int) -> dict[str, Any]:
    """Milliseconds per stage of an edit, and of a step on the device and on the host."""
    with Editor(bundle, backend=backend) as editor:
        results = [editor.edit(picture(size, seed), INSTRUCTION, seed=seed, steps=steps) for seed in range(3 + repeats)]
        times = [dataclasses.asdict(result.times) for result in results[3:]]
        device = editor._backend.device  # type: ignore[attr-defined]
        marks: list[tuple[Any, float]] = []

        def mark(info: Any) -> None:
            marks.append((device.run(device.mark), time.perf_counter()))

        editor.edit(picture(size), INSTRUCTION, seed=1, steps=steps, on_step=mark)
        device_ms = [device.run(device.milliseconds, a[0], b[0]) for a, b in pairwise(marks)]
        host_ms = [1000 * (b[1] - a[1]) for a, b in pairwise(marks)]
        free, total = device.memory()
        engines = [dataclasses.asdict(memory) for memory in editor.memory]
        marks.clear()  # events are the device's, which closes here
    return {
        "stages_ms": {name: statistics.median(row[name] for row in times) for name in times[0]},
        "step_ms": statistics.median(device_ms),
        "host_ms": statistics.median(host_ms),
        "memory_used_mib": (total - free) / 2**20,
        "engines": engines,
    }


def report(bundle: Path, library: str, size: tuple[int, int], steps: int = 20, repeats: int = 10) -> dict[str, Any]:
    """Everything above, as one JSON value."""
    built = build(bundle, library, size)
    with Editor(bundle, backend=library) as editor:  # type: ignore[arg-type]
        where = editor._backend.describe()
    return {
        "on": where,
        "python": platform.python_version(),
        "bundle": open_bundle(bundle, verify=False).manifest.name,
        "size": list(size),
        "steps": steps,
        "engines": built,
        "parity": parity(bundle, library, size),
        "latency": latency(bundle, library, size, steps, repeats),
    }


def main(
    bundle: Annotated[Path, typer.Argument(help="A bundle exported with --precision fp16 --fused-step.")],
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")] = "512x512",
    library: Annotated[str, typer.Option(help="tensorrt or tensorrt-rtx.")] = "tensorrt",
    steps: Annotated[int, typer.Option(help="Steps of an edit.")] = 20,
    repeats: Annotated[int, typer.Option(help="Edits that are measured.")] = 10,
    output: Annotated[Path, typer.Option("--output", "-o", help="The report, JSON.")] = Path("gpu-report.json"),
) -> None:
    made = report(bundle, library, parse_sizes(size)[0], steps, repeats)
    with atomic_write(output) as file:
        file.write((json.dumps(made, indent=1) + "\n").encode())
    print(json.dumps(made["latency"], indent=1))
    print(f"{output}: {made['on']}")


if __name__ == "__main__":
    typer.run(main)
