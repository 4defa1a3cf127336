"""What crosses between host and device in an edit: bytes, synchronisations, allocations per step; no GPU needed.

    python tests/support/cuda_driver/install_pycuda.py
    python benchmarks/device_traffic.py BUNDLE

runs the real backend, pycuda and cuda-bindings on the simulated driver of the tests (host memory, ONNX Runtime in
TensorRT's place), which counts what is asked of it. A step's share is the difference between edits of 5 and 13 steps,
over 8, once everything is captured; "in loop" is what happens between two steps. Copies are counted when they are done,
so their "in loop" is of an edit that waits for the device after each step. It says nothing about time.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from simulated_cuda import Counters, load_driver

NAMES = (
    *("htod_bytes", "dtoh_bytes", "dtod_bytes", "stream_syncs", "event_syncs", "context_syncs"),
    *("device_allocations", "pinned_allocations", "graph_launches", "pageable_copies"),
)


@contextmanager
def counted_steps(driver: Any, *, settled: bool) -> Iterator[list[Counters]]:
    """What the driver had counted after every step of a pool; `settled` waits for each, as copies count when done."""
    from pixrt.core.fused import FusedPool
    from pixrt.core.pool import HostPool

    seen: list[Counters] = []
    originals = {kind: kind.step for kind in (FusedPool, HostPool)}

    def counting(kind: Any) -> Any:
        def step(self: Any, slots: Any = None) -> list[int]:
            ended: list[int] = originals[kind](self, slots)
            if settled:
                self.wait()
            seen.append(driver.counters())
            return ended

        return step

    for kind in originals:
        kind.step = counting(kind)  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for kind, original in originals.items():
            kind.step = original  # type: ignore[method-assign]


def main(bundle: Annotated[Path, typer.Argument(help="A bundle exported with --fused-step.")]) -> None:
    driver = load_driver()  # before anything looks for CUDA
    import simulated_tensorrt
    from simulated_engines import with_engines

    sys.modules["tensorrt"] = simulated_tensorrt
    from pixrt import Editor
    from pixrt.bundles.store import open_bundle

    side = open_bundle(bundle, verify=False).manifest.native_resolution
    picture = np.full((side, side, 3), 120, np.uint8)
    print(f"{side} x {side} pixels, one picture, three branches, Euler ancestral; per step")
    print(f"{'':20}{'fused':>14}{'fused, in loop':>16}{'unfused':>14}{'unfused, in loop':>18}")
    columns: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = with_engines(bundle, Path(scratch) / "bundle", sizes=((side, side),))
        for fused in (True, False):
            with Editor(folder, backend="tensorrt", fused_step=fused) as editor:

                def edit(steps: int, editor: Any = editor) -> Counters:
                    before = driver.counters()
                    editor.edit(
                        picture, "make it winter", seed=1, steps=steps, scheduler="euler_ancestral",
                        guidance_scale=7.5, image_guidance_scale=1.5,
                    )  # fmt: skip
                    return driver.counters() - before

                for steps in (5, 13, 5, 13):
                    edit(steps)
                few, many = edit(5), edit(13)
                with counted_steps(driver, settled=False) as called:
                    edit(5)
                with counted_steps(driver, settled=True) as done:
                    edit(5)
            columns.append({name: (getattr(many, name) - getattr(few, name)) / 8 for name in NAMES})
            columns.append(
                {
                    name: getattr(seen[-1] - seen[0], name) / (len(seen) - 1)
                    for name in NAMES
                    for seen in (done if name.endswith(("_bytes", "_copies")) else called,)
                }
            )
    for name in NAMES:
        cells = "".join(f"{column[name]:>{width}.6g}" for column, width in zip(columns, (14, 16, 14, 18), strict=True))
        print(f"{name:20}{cells}")


if __name__ == "__main__":
    typer.run(main)
