"""FP16 as a way of storing weights: half the file and nearly half the memory, with FP32 arithmetic on any CPU.

ONNX Runtime has no FP16 kernels for x86 and turns an FP16 graph's weights into FP32 when it opens it. Here the large
weights are cast each time their layer runs, into memory that the next layer uses again.
"""

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import onnx

from pixrt_export.tracing import save

# Smaller weights save nothing worth a cast. A convolution whose weight is not constant loses ONNX Runtime's blocked
# layout, which pays while pictures are large and kernels small: only kernels from this size on are cast.
SMALLEST = {"MatMul": 2**16, "Gemm": 2**16, "Gather": 2**16, "Conv": 4_000_000}
LARGEST_VALUE = 65504  # of FP16
# Which input of the operator is the weight; if it is another input (a constant left factor), it stays as it is.
_WEIGHT = {"MatMul": 1, "Gemm": 1, "Gather": 0, "Conv": 1}


def to_fp16_weights(source: Path, target: Path) -> tuple[str, ...]:
    """Store the large weights of the FP32 graph at `source` as FP16 in `target`.

    Returns the names of those that are too large for FP16 in value and stay FP32.
    """
    model = onnx.load(str(source))
    graph = model.graph
    uses = _uses(graph)
    kept, halved = [], {}
    for tensor in graph.initializer:
        if not _is_large(tensor, uses.get(tensor.name, [])):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if np.abs(values).max() > LARGEST_VALUE:
            kept.append(tensor.name)
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name))
        # As an input with a default it is not a constant, so no optimiser folds the cast back into FP32.
        halved[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    graph.input.extend(halved.values())
    nodes = [new for node in graph.node for new in _with_casts(node, halved)]
    del graph.node[:]
    graph.node.extend(nodes)
    save(model, target)
    return tuple(kept)


def _uses(graph: onnx.GraphProto) -> dict[str, list[tuple[str, int]]]:
    """Operator and input number of every use of every value."""
    uses: dict[str, list[tuple[str, int]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            uses.setdefault(name, []).append((node.op_type, index))
    return uses


def _is_large(tensor: onnx.TensorProto, uses: list[tuple[str, int]]) -> bool:
    return (
        tensor.data_type == onnx.TensorProto.FLOAT
        and bool(uses)
        and all(_WEIGHT.get(operator) == index for operator, index in uses)
        and all(np.prod(tensor.dims) >= SMALLEST[operator] for operator, _ in uses)
    )


def _with_casts(node: onnx.NodeProto, halved: Container[str]) -> Iterator[onnx.NodeProto]:
    """The node with what makes its FP16 weight FP32: a cast before it, or after it if it only picks rows."""
    index = _WEIGHT.get(node.op_type)
    if index is None or index >= len(node.input) or node.input[index] not in halved:
        yield node
        return
    if node.op_type == "Gather":
        picked, result = f"{node.output[0]}/fp16", node.output[0]
        node.output[0] = picked
        yield node
        yield _cast(picked, result)
    else:
        single = f"{node.input[index]}/{node.name}/fp32"
        yield _cast(node.input[index], single)
        node.input[index] = single
        yield node


def _cast(source: str, target: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], f"{target}/Cast", to=onnx.TensorProto.FLOAT)
