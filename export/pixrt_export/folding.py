"""Numbers that a traced graph computes from sizes that are fixed, such as an attention's scale, as constants.

The exporter writes 1 / sqrt(head size) as arithmetic on the shape of a tensor, and multiplies query and key by its
root. In FP16 that would be computed in FP16, and the root be rounded twice, in the same direction: scores 3.5e-4 off
for heads of 40, 6.1e-4 for heads of 80. Here it is computed before the conversion, and the two roots become two halves
whose product is right. Only what is known whatever the inputs are is folded. Must not import torch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, Any]
_UNKNOWN = -1  # a size that is not fixed
_AROUND = 256  # FP16 numbers on either side of a root, among which one has its counterpart
_MOST = 64  # elements: sizes and scalars, no weights

_ARITHMETIC: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Sqrt": np.sqrt,
    "Div": lambda a, b: a // b if np.issubdtype(a.dtype, np.integer) else a / b,
}


def fold_sizes(model: onnx.ModelProto) -> list[str]:
    """Replace, in place, float results of arithmetic on fixed sizes by constants; the names of the values.

    The types in `model` must have been inferred. They are computed in the graph's own precision, which is FP32.
    """
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return []  # what a graph within reads is not seen here
    known = known_values(graph)
    readers = {name for node in graph.node if node.output[0] not in known for name in node.input}
    readers |= {value.name for value in graph.output}
    folded = [
        node.output[0]
        for node in graph.node
        if node.op_type in _ARITHMETIC and node.output[0] in known and node.output[0] in readers
    ]
    folded = [name for name in folded if known[name].dtype == np.float32]
    _split_roots(graph, known, folded)
    for node in graph.node:
        if node.output and node.output[0] in folded:
            value = onnx.numpy_helper.from_array(known[node.output[0]])
            node.CopyFrom(onnx.helper.make_node("Constant", [], [node.output[0]], node.name, value=value))
    drop_unread(graph)
    return folded


def _split_roots(graph: onnx.GraphProto, known: dict[str, Array], folded: list[str]) -> None:
    """Of a number whose root is taken twice, by what is multiplied with either: two factors in its place."""
    roots: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type == "Sqrt" and node.output[0] in folded:
            roots.setdefault(node.input[0], []).append(node.output[0])
    for number, names in roots.items():
        if len(names) == 2 and known[number].size == 1:
            for name, factor in zip(names, halves(float(known[number].item())), strict=True):
                known[name] = np.full(known[name].shape, factor, np.float32)


def halves(number: float) -> tuple[float, float]:
    """Two FP16 numbers near the square root of a positive one, whose product is nearest to it."""
    root = np.float16(np.sqrt(number))
    around = (root.view(np.uint16) + np.arange(-_AROUND, _AROUND + 1)).astype(np.uint16).view(np.float16)
    first = around[np.isfinite(around) & (around > 0)].astype(np.float64)
    second = (number / first).astype(np.float16).astype(np.float64)
    best = int(np.abs(first * second - number).argmin())
    return float(first[best]), float(second[best])


def known_values(graph: onnx.GraphProto) -> dict[str, Array]:
    """Every small value that does not depend on the inputs. Sizes that do are `_UNKNOWN` while they are collected."""
    shapes = {
        value.name: [
            size.dim_value if size.HasField("dim_value") else _UNKNOWN for size in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    values = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if np.prod(tensor.dims, dtype=int) <= _MOST and tensor.data_location != onnx.TensorProto.EXTERNAL
    }
    sizes: set[str] = set()  # values that may hold `_UNKNOWN`
    for node in graph.node:
        made = _value(node, values, shapes, sizes)
        if made is not None:
            values[node.output[0]] = made
            if node.op_type == "Shape" or any(name in sizes for name in node.input):
                sizes.add(node.output[0])
        if node.op_type == "Reshape" and node.input[1] in values:
            target = [int(size) if size > 0 else _UNKNOWN for size in values[node.input[1]]]
            shapes[node.output[0]] = _merged(shapes.get(node.output[0]), target)
        elif node.op_type == "Transpose" and node.input[0] in shapes:
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            given = shapes[node.input[0]]
            moved = [given[axis] for axis in (order or range(len(given))[::-1])]
            shapes[node.output[0]] = _merged(shapes.get(node.output[0]), moved)
    return {name: value for name, value in values.items() if name not in sizes or not (value == _UNKNOWN).any()}


def _merged(shape: Sequence[int] | None, other: list[int]) -> list[int]:
    if shape is None or len(shape) != len(other):
        return other
    return [max(pair) for pair in zip(shape, other, strict=True)]


def _value(
    node: onnx.NodeProto, values: dict[str, Array], shapes: dict[str, list[int]], sizes: set[str]
) -> Array | None:
    """What a node makes of known values, None where it is not known."""
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Constant" and "value" in attributes:
        made = onnx.numpy_helper.to_array(attributes["value"])
        return made if made.size <= _MOST else None
    if node.op_type == "Shape" and not attributes and node.input[0] in shapes:
        return np.array(shapes[node.input[0]], np.int64)
    if not node.input or any(name not in values for name in node.input if name):
        return None
    given = [values[name] for name in node.input if name]
    partly = any(name in sizes and (values[name] == _UNKNOWN).any() for name in node.input)
    match node.op_type:
        case "Gather":
            return np.take(given[0], given[1], attributes.get("axis", 0))
        case "Slice" if given[0].ndim == 1 and len(given) <= 4:
            return given[0][int(given[1][0]) : int(given[2][0])]
        case "Concat":
            return np.concatenate(given, attributes["axis"])
        case "Unsqueeze" | "Squeeze" if len(given) == 2:
            change = np.expand_dims if node.op_type == "Unsqueeze" else np.squeeze
            return change(given[0], tuple(given[1].tolist()))
        case "Cast" if not partly:
            return given[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))
        case name if name in _ARITHMETIC and not partly:
            made = _ARITHMETIC[name](*given)
            return made if made.size <= _MOST else None
    return None


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the nodes whose results nothing reads."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            kept.append(node)
            read.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
