"""INT8 as a way of storing weights: a quarter of the file, with FP32 arithmetic on any CPU, and nothing calibrated."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import make_node

from pixrt_export.quantisation.qdq import quantise
from pixrt_export.tracing import save

# Smaller weights save nothing worth what makes them FP32 again each time their layer runs.
SMALLEST = 2**12
_LARGEST = 127  # -128 is not used: the scales are symmetric
# Which input of a layer is the weight, and its axis of output channels.
_AXES = {"Conv": (1, 0), "MatMul": (1, -1), "Gemm": (1, -1)}


def to_int8_weights(source: Path, target: Path) -> None:
    """Store the large weights of the FP32 graph at `source` as INT8 in `target`, with a scale per output channel."""
    model = onnx.load(str(source))
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    axes: dict[str, set[int | None]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            axes.setdefault(name, set()).add(_axis(node, index))
    stored: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for name, tensor in weights.items():
        values = onnx.numpy_helper.to_array(tensor)
        axis, *others = axes.get(name, {None})
        if axis is None or others or values.size < SMALLEST:
            continue
        axis %= values.ndim
        scale = _scales(values, axis)
        zero = np.zeros(scale.shape, np.int8)  # ONNX Runtime would add one of another shape
        parts = {"int8": quantise(values, scale, zero, axis), "scale": scale, "zero": zero}
        stored += [onnx.numpy_helper.from_array(part, f"{name}/{kind}") for kind, part in parts.items()]
        inputs = [f"{name}/{kind}" for kind in parts]
        nodes.append(make_node("DequantizeLinear", inputs, [name], f"{name}/fp32", axis=axis))
    made = {node.output[0] for node in nodes}
    stored += [tensor for tensor in graph.initializer if tensor.name not in made]
    nodes += graph.node
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(stored)
    save(model, target)


def _axis(node: onnx.NodeProto, index: int) -> int | None:
    """The axis of output channels of a layer's weight; None for what is none."""
    at, axis = _AXES.get(node.op_type, (None, None))
    if index != at:
        return None
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if turned else axis


def _scales(values: NDArray[Any], axis: int) -> NDArray[np.float32]:
    """The largest of each output channel is 127; one of zeros has any scale."""
    others = tuple(each for each in range(values.ndim) if each != axis)
    largest = np.abs(values).max(axis=others)
    return np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
