"""What a GPU does with a bundle: builds its engines, holds the pictures against the CPU's, measures, writes one report.

    python benchmarks/gpu_report.py BUNDLE [--size 512x512] [--library tensorrt] [-o gpu-report.json]

needs an NVIDIA GPU, `pixrt[tensorrt]` or `pixrt[tensorrt-rtx]`, and a bundle exported with `--precision fp16
--fused-step`. Nothing in the report comes from anywhere but this run. Times are medians after a warm-up of three
edits. `step_ms` lies between two events on the stream, before and after one fused step; `host_ms` is how long the host
takes to enqueue it: where it is below the step's time the device does not wait for the host.
"""

import dataclasses
import json
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pixrt import Editor
from pixrt.backends.cuda.calls import DeviceLoop
from pixrt.backends.cuda.device import Device
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt.files import atomic_write
from pixrt_engines import BuildOptions, run_build
from pixrt_engines.building import plan_build
from pixrt_engines.options import parse_sizes

SCHEDULERS = ("ddim", "euler_ancestral", "dpmpp_2m", "unipc")
INSTRUCTION = "make it winter"
WARM_UP = 3
Array = np.ndarray[Any, Any]


class Lines:
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
    components = tuple(map(Component, open_bundle(bundle, verify=False).manifest.components))
    options = BuildOptions(
        bundle=str(bundle),
        components=components,
        library=library,  # type: ignore[arg-type]
        targets=("native",),
        sizes=(size,),
        batch=(1, 1),
    )
    built = run_build(plan_build(options), options, Lines())
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

    def runs(scheduler: str, times: int = 1, **parameters: Any) -> list[tuple[Array, Array]]:
        """Latents after every step, and the picture, of the same edit `times` times. One editor at a time is open."""
        found = []
        with Editor(bundle, **parameters) as editor:
            for _ in range(times):
                seen: list[Array] = []
                result = editor.edit(
                    picture(size),
                    INSTRUCTION,
                    seed=1,
                    steps=steps,
                    resolution=max(size),
                    scheduler=scheduler,  # type: ignore[arg-type]
                    on_step=lambda info, seen=seen: seen.append(info.latents),
                )
                found.append((np.stack(seen), np.asarray(result.image).astype(int)))
        return found

    rows = []
    for scheduler in SCHEDULERS:
        ((latents, image),) = runs(scheduler, backend="ort-cpu")
        # The first run warms up, the second is captured, the third is launched.
        fused = runs(scheduler, 3, backend=backend, fused_step=True)
        ways = {
            "fused": fused[2],
            "unfused": runs(scheduler, 3, backend=backend, fused_step=False)[2],
            "without graphs": runs(scheduler, backend=backend, cuda_graphs=False)[0],
        }
        row: dict[str, Any] = {"scheduler": scheduler}
        for name, (ours, our_image) in ways.items():
            row[name] = {
                "latents": float(np.abs(ours - latents).max() / np.abs(latents).max()),
                "picture_mean": float(np.abs(our_image - image).mean()),
                "picture_max": int(np.abs(our_image - image).max()),
            }
        row["captured run equals the first"] = all(bool((run[0] == fused[0][0]).all()) for run in fused[1:])
        rows.append(row)
    return rows


def latency(bundle: Path, backend: Any, size: tuple[int, int], steps: int, repeats: int) -> dict[str, Any]:
    """Milliseconds per stage of an edit with a new picture and a new text, and of a step on the device and the host."""
    with Editor(bundle, backend=backend) as editor:

        def edit(seed: int) -> Any:
            given = {"seed": seed, "steps": steps, "resolution": max(size)}
            return editor.edit(picture(size, seed), f"{INSTRUCTION}, number {seed}", **given).times

        times = [dataclasses.asdict(edit(seed)) for seed in range(WARM_UP + repeats)][WARM_UP:]
        with timed_steps(editor._backend.context.device) as (marks, host_ms):  # type: ignore[attr-defined]
            edit(0)
            device: Device = editor._backend.context.device  # type: ignore[attr-defined]
            device_ms = [device.run(device.milliseconds, *pair) for pair in marks]
            device.run(marks.clear)  # events are freed in the device's thread
        free, total = device.memory()
        engines = [dataclasses.asdict(memory) for memory in editor.memory]
    return {
        "stages_ms": {name: statistics.median(row[name] for row in times) for name in times[0]},
        "step_ms": statistics.median(device_ms),
        "host_ms": statistics.median(host_ms),
        "engines": engines,
        "memory_in_use_by_all_processes_mib": (total - free) / 2**20,
    }


@contextmanager
def timed_steps(device: Device) -> Iterator[tuple[list[tuple[Any, Any]], list[float]]]:
    """Marks on the stream around every step of a fused loop, and the milliseconds that the host took to enqueue it."""
    marks: list[tuple[Any, Any]] = []
    host_ms: list[float] = []
    original = DeviceLoop._step

    def step(self: DeviceLoop, at: Sequence[int], rows: int) -> None:
        first, started = device.mark(), time.perf_counter()
        original(self, at, rows)
        host_ms.append(1000 * (time.perf_counter() - started))
        marks.append((first, device.mark()))

    DeviceLoop._step = step  # type: ignore[method-assign]
    try:
        yield marks, host_ms
    finally:
        DeviceLoop._step = original  # type: ignore[method-assign]


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
