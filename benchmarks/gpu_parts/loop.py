"""The device loop with a double of TensorRT by PyTorch on the same stream, against ONNX Runtime on the CPU.

Real copies, events, scratch memory and captured graphs; only the network's kernels are PyTorch's.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gpu_parts.session import Session

# FP16 has 11 bits; guidance multiplies the rounding of every branch, and four steps carry it on.
TOLERANCES = {"float16": 3.0, "float32": 1.01}  # of 255, the largest difference of a picture that is not noise
EDITS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "another solver": {"scheduler": "dpmpp_2m"},
    "two branches": {"image_guidance_scale": 1.0},
    "rows change on the way": {"guidance_interval": (0.0, 0.5)},
    "again": {},
}


def open_double(session: Session) -> tuple[Path, Any]:
    """A bundle with engines that the double runs, which stands in TensorRT's place; and the simulated driver."""
    session.needs("torch", "onnx", "onnxruntime")
    driver = session.driver()
    import simulated_engines
    from gpu_parts import torch_double
    from pixrt.backends.cuda.device import Device
    from pixrt_engines.targets import Targets
    from simulated_edits import SIZE

    torch_double.use_device(driver)
    sys.modules["tensorrt"] = torch_double
    device = Device()
    major, minor = device.capability
    name = device.name
    device.close()
    simulated_engines.TARGETS = Targets(capabilities=(f"sm{major}{minor}",), gpu=name)
    folder = simulated_engines.with_engines(
        session.small_bundle(), session.scratch / "double", sizes=(SIZE, (64, 64)), batch=(1, 3)
    )
    return folder, driver


def run(session: Session) -> None:
    """Edits of two pictures by both, the fused step and the plain UNet, three times each: plain, captured, launched."""
    folder, driver = open_double(session)
    from pixrt import Editor
    from pixrt.bundles.store import open_bundle
    from simulated_edits import edit

    precision = open_bundle(folder, verify=False).manifest.precision
    tolerance = TOLERANCES["float16" if precision == "fp16" else "float32"]
    few = session.steps < 20  # under a sanitizer or in a dry run
    edits = dict(list(EDITS.items())[:1] if few else EDITS)
    with Editor(folder, backend="ort-cpu") as plain:
        expected = {name: edit(plain, **parameters) for name, parameters in edits.items()}
    beyond = []
    for fused in (True,) if few else (True, False):
        way = "fused" if fused else "unfused"
        with (
            warnings.catch_warnings(record=True) as said,
            Editor(folder, backend="tensorrt", fused_step=fused) as editor,
        ):
            warnings.simplefilter("always")
            for name, parameters in edits.items():
                runs = [edit(editor, **parameters) for _ in range(3)]
                worst = max(int(np.abs(a - b).max()) for a, b in zip(runs[2], expected[name], strict=True))
                same = all(bool((a == b).all()) for a, b in zip(runs[0], runs[2], strict=True))
                session.tell(**{f"{way}, {name}": {"picture_max": worst, "captured run equals the first": same}})
                if worst > tolerance or not same:
                    beyond.append(f"{way}, {name}")
            before = editor._backend.context.device.memory()[0]  # type: ignore[attr-defined]
            for _ in range(2 if few else 10):
                edit(editor)
            left = before - editor._backend.context.device.memory()[0]  # type: ignore[attr-defined]
        session.tell(**{f"{way}, bytes left by further edits": left})
        told = sorted({str(each.message) for each in said if "graph" in str(each.message)})
        if told:
            session.tell(**{f"{way}, warnings": told})
            beyond.append(f"{way}: no graph was captured")
    if driver is not None:
        assert not driver.raised, driver.raised[0]
        assert not driver.log(), driver.log()[0]
    assert not beyond, f"beyond {tolerance} of 255, or not repeated: {'; '.join(beyond)}"
