"""What crosses between host and device in edits that join and leave: bytes, waits, launches per step; no GPU needed.

    python tests/support/cuda_driver/install_pycuda.py
    python benchmarks/device_traffic.py BUNDLE

runs the real backends, pycuda and cuda-bindings on the simulated driver of the tests (host memory, ONNX Runtime on the
CPU in the place of TensorRT and of its own CUDA provider), which counts what is asked of it. Seven pictures of other
solvers, steps and scales advance on three slots. Everything has been captured before; texts and pictures are new to
the device. A "plain" step is one before which nobody joined or left; "after a join" the first step behind a join,
which brings the joined picture's source and text. A command's own bytes are those that travel within it. Copies are
counted when they are done, so bytes are of a run that waits after every step, and waits are of one that does not.
It says nothing about time.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from simulated_cuda import Counters, load_driver

BYTES = ("htod_bytes", "dtoh_bytes", "dtod_bytes", "pageable_copies", "memsets")
WAITS = ("stream_syncs", "event_syncs", "context_syncs", "graph_launches", "device_allocations", "pinned_allocations")
SLOTS = 3
# Solver, steps, guidance scale, image guidance scale.
EDITS = (
    *(("euler_ancestral", 12, 7.5, 1.5), ("dpmpp_2m", 5, 7.5, 1.5), ("ddim", 9, 5.0, 1.2)),
    *(("unipc", 7, 7.5, 1.5), ("pndm", 6, 3.0, 1.5), ("euler", 12, 7.5, 1.5), ("dpmpp_2m_sde", 8, 7.5, 1.5)),
)


@dataclass
class Seen:
    """What joins, plain steps, and first steps behind a join have taken, one by one."""

    joins: list[Counters] = field(default_factory=list)
    plain: list[Counters] = field(default_factory=list)
    after: list[Counters] = field(default_factory=list)
    changed: bool = True


@contextmanager
def counted(driver: Any, *, settled: bool) -> Iterator[Seen]:
    """Every join and step of a pool; `settled` waits before and after each, as copies count when they are done."""
    from pixrt.core.fused import FusedPool
    from pixrt.core.pool import HostPool

    seen = Seen()
    originals = [(kind, kind.join, kind.step, kind.leave) for kind in (FusedPool, HostPool)]

    def spend(pool: Any, run: Any, *given: Any) -> tuple[Any, Counters]:
        if settled:
            pool.wait()
        before = driver.counters()
        answer = run(pool, *given)
        between = driver.counters()
        if not settled:
            return answer, between - before
        pool.wait()
        return answer, driver.counters() - before

    def wrap(kind: Any, join: Any, step: Any, leave: Any) -> None:
        def joining(self: Any, track: Any) -> int:
            slot, spent = spend(self, join, track)
            seen.joins.append(spent)
            seen.changed = True
            return int(slot)

        def stepping(self: Any, slots: Any = None) -> list[int]:
            ended, spent = spend(self, step, slots)
            (seen.after if seen.changed else seen.plain).append(spent)
            seen.changed = False
            return list(ended)

        def leaving(self: Any, slot: int) -> Any:
            seen.changed = True
            return leave(self, slot)

        kind.join, kind.step, kind.leave = joining, stepping, leaving

    for original in originals:
        wrap(*original)
    try:
        yield seen
    finally:
        for kind, join, step, leave in originals:
            kind.join, kind.step, kind.leave = join, step, leave


def jobs(side: int, run: int) -> list[Any]:
    """The edits; in every run of other texts and pictures."""
    from pixrt import EditOptions, Job

    made = []
    for number, (scheduler, steps, guidance, image_guidance) in enumerate(EDITS):
        picture = np.full((side, side, 3), (29 * run + 17 * number) % 256, np.uint8)
        options = EditOptions(
            scheduler=scheduler, steps=steps, seed=number, guidance_scale=guidance, image_guidance_scale=image_guidance
        )
        made.append(Job(options=options, image=picture, text=f"make it {run} and {number}"))
    return made


def column(driver: Any, folder: Path, side: int, backend: str, *, fused: bool, graphs: bool) -> dict[str, str]:
    """What the edits take on a backend, by line of the table; the smallest and the largest where they differ."""
    from pixrt import Editor

    lines = {}
    with Editor(folder, backend=backend, fused_step=fused, cuda_graphs=graphs, max_batch=SLOTS) as editor:

        def make(run: int) -> None:
            list(editor.run(list(editor.check(jobs(side, run)))))

        for run in range(3):
            make(run)
        with counted(driver, settled=True) as done:
            make(3)
        with counted(driver, settled=False) as called:
            make(4)
    for kind in ("plain", "after", "joins"):
        for names, seen in ((BYTES, done), (WAITS, called)):
            for name in names:
                values = [getattr(each, name) for each in getattr(seen, kind)]
                low, high = min(values), max(values)
                lines[f"{kind} {name}"] = str(low) if low == high else f"{low}-{high}"
    lines["steps"] = f"{len(done.plain)} + {len(done.after)}"
    return lines


def main(bundle: Annotated[Path, typer.Argument(help="A bundle exported with --fused-step.")]) -> None:
    driver = load_driver()  # before anything looks for CUDA
    import simulated_tensorrt
    from simulated_engines import with_engines
    from simulated_ort import SimulatedOrt

    sys.modules["tensorrt"] = simulated_tensorrt
    from pixrt.bundles.store import open_bundle

    side = open_bundle(bundle, verify=False).manifest.native_resolution
    print(f"{side} x {side} pixels, {len(EDITS)} pictures on {SLOTS} slots, three branches each")
    columns: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        SimulatedOrt(patch)
        folder = with_engines(bundle, Path(scratch) / "bundle", sizes=((side, side),), batch=(1, SLOTS))
        for name, backend, fused, graphs in (
            ("tensorrt", "tensorrt", True, True),
            ("ort-cuda", "ort-cuda", True, True),
            ("ort, no graphs", "ort-cuda", True, False),
            ("tensorrt, UNet", "tensorrt", False, True),
            ("ort-cuda, UNet", "ort-cuda", False, True),
        ):
            columns[name] = column(driver, folder, side, backend, fused=fused, graphs=graphs)
    print(f"{'':26}" + "".join(f"{name:>18}" for name in columns))
    for line in next(iter(columns.values())):
        print(f"{line:26}" + "".join(f"{each[line]:>18}" for each in columns.values()))
    if driver.raised:
        sys.exit(f"the simulated driver found: {driver.raised[0]}")


if __name__ == "__main__":
    typer.run(main)
