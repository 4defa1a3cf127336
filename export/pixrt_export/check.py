"""Every exported network against PyTorch, on inputs and at shapes that the tracing did not see."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from pixrt.bundles.manifest import Component, ExportCheck, Precision
from pixrt.errors import ExportMismatch
from pixrt_export.components import Traceable
from pixrt_export.tracing import open_session

# Relative to the largest PyTorch value. FP32: both sides do the same sums in another order; the largest seen over
# the tested checkpoints is 2e-5. FP16 has 11 bits, and its rounding adds up over the layers: up to 1e-2 was seen.
# INT8 has 8, in ranges that were seen on edits: its RMS error says how good it is, and this finds only what is broken.
TOLERANCE: dict[Precision, float] = {
    "fp32": 1e-4,
    "fp16": 3e-2,
    "fp16-weights": 3e-2,
    "int8": 0.5,
    "int8-weights": 0.2,
}
_SHAPES = ((1, 16, 24), (3, 12, 9))


@dataclass(frozen=True, slots=True)
class Reference:
    """Inputs, and what PyTorch makes of them."""

    inputs: dict[str, np.ndarray[Any, Any]]
    output: np.ndarray[Any, Any]


def references(network: Traceable) -> list[Reference]:
    """Run PyTorch on two batches of different size and shape, seeded. The timesteps of a batch differ."""
    torch.manual_seed(0)
    made = []
    for batch, height, width in _SHAPES:
        inputs = network.inputs(batch, height, width)
        with torch.no_grad():
            output = network.module(**inputs)
        tensor = output[network.output] if isinstance(output, dict) and network.output in output else output[0]
        made.append(Reference({name: value.numpy() for name, value in inputs.items()}, tensor.numpy()))
    return made


def check(component: Component, path: Path, given: Sequence[Reference], precision: Precision) -> ExportCheck:
    """Run the ONNX file on the references. Raises ExportMismatch beyond the tolerance or for values not finite."""
    session = open_session(path)
    dtypes = {value.name: np.float16 if value.type == "tensor(float16)" else None for value in session.get_inputs()}
    largest, errors = 0.0, []
    for reference in given:
        feeds = {name: value.astype(dtypes[name] or value.dtype) for name, value in reference.inputs.items()}
        output, *_ = session.run(None, feeds)
        errors.append(np.abs(output.astype(np.float64) - reference.output).ravel())
        largest = max(largest, float(np.abs(reference.output).max()))
    every = np.concatenate(errors) / (largest or 1.0)  # all zero if every weight is
    result = ExportCheck(max_error=float(every.max()), mean_error=float(every.mean()), tolerance=TOLERANCE[precision])
    if not result.max_error <= result.tolerance:  # also for NaN
        raise ExportMismatch(
            f"{component} differs from PyTorch by {result.max_error:.2e} of its largest value (mean"
            f" {result.mean_error:.2e}), more than {result.tolerance:.0e}",
            remedy="Report the checkpoint's architecture" if precision == "fp32" else "Export with --precision fp32",
        )
    return result


def tensor_table(path: Path) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs as the graph declares them, without the inputs that have a default: those are weights."""
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights], list(graph.output)
