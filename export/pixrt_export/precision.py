"""FP16 as a conversion of an FP32 graph: weights and activations, with what would overflow kept in FP32.

TensorRT 11 builds what the graph says, so the precision has to be in the graph. Kept in FP32: the timestep's way into
the network (fractional timesteps near 1000 have steps of 0.5 in FP16), and every node that reads or writes a value
beyond a limit on calibration inputs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnxruntime.transformers.float16 import convert_float_to_float16

from pixrt_export.tracing import save

# FP16 ends at 65504. Calibration sees a few inputs only, so a node is kept well before that.
LIMIT = 65504 / 8
Feeds = dict[str, np.ndarray[Any, Any]]


def to_fp16(source: Path, target: Path, calibration: Sequence[Feeds]) -> tuple[str, ...]:
    """Convert the graph at `source` into `target`; returns the names of the nodes kept in FP32."""
    ranges = activation_ranges(source, calibration)
    model = onnx.load(str(source))
    kept = _timestep_nodes(model.graph) | {
        node.name
        for node in model.graph.node
        if any(ranges.get(name, 0.0) > LIMIT for name in (*node.input, *node.output))
    }
    keep_io = [value.name for value in model.graph.input if value.name == "timestep"]
    converted = convert_float_to_float16(
        model,
        keep_io_types=keep_io,
        disable_shape_infer=True,
        op_block_list=[],
        node_block_list=sorted(kept),
    )
    ordered = onnx_ir.serde.deserialize_model(converted)
    ordered.graph.sort()  # the conversion puts its casts at the end
    save(onnx_ir.serde.serialize_model(ordered), target)
    return tuple(name for name in (node.name for node in model.graph.node) if name in kept)


def activation_ranges(path: Path, feeds: Sequence[Feeds]) -> dict[str, float]:
    """The largest absolute value of every float activation over the given inputs.

    The graph is run once per input with a maximum added to each node's output; weights are not loaded twice.
    """
    model = onnx.load(str(path), load_external_data=False)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    floats = {v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats |= {v.name for v in inferred.graph.output}
    names = [output for node in model.graph.node if node.op_type != "Constant" for output in node.output]
    names = [name for name in names if name in floats]
    del model.graph.output[:]
    for name in names:
        for op, inputs, outputs in (("Abs", [name], f"{name}/abs"), ("ReduceMax", [f"{name}/abs"], f"{name}/max")):
            attributes = {"keepdims": 0} if op == "ReduceMax" else {}
            model.graph.node.append(onnx.helper.make_node(op, inputs, [outputs], **attributes))
        model.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}/max", onnx.TensorProto.FLOAT, []))
    measured = path.with_name(f"{path.stem}.ranges.onnx")
    try:
        onnx.save(model, str(measured))
        session = onnxruntime.InferenceSession(str(measured), providers=["CPUExecutionProvider"])
        ranges = dict.fromkeys(names, 0.0)
        for feed in feeds:
            for name, value in zip(names, session.run(None, feed), strict=True):
                ranges[name] = max(ranges[name], float(value))
    finally:
        measured.unlink(missing_ok=True)
    return ranges


def _timestep_nodes(graph: onnx.GraphProto) -> set[str]:
    """The nodes between the timestep and the first layer with weights: the sinusoidal embedding."""
    reached, nodes = {"timestep"}, set()
    for node in graph.node:
        if reached.intersection(node.input) and node.op_type not in ("Gemm", "MatMul"):
            nodes.add(node.name)
            reached.update(node.output)
    return nodes
