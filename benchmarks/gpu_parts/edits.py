"""What parts of the report share: engines are built, pictures are the CPU's, and where an edit's time goes."""

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pixrt import Editor
from pixrt.backends.cuda.calls import DeviceLoop
from pixrt.backends.cuda.device import Device
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt_engines import BuildOptions, run_build
from pixrt_engines.building import plan_build

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
