"""The work in a network: FLOPs and bytes of its convolutions and matrix products, counted from the ONNX graph."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.editor.result import Estimate
from pixrt.errors import BundleError

COUNTED = ("Conv", "Gemm", "MatMul")
_LARGEST_FOLDED = 64  # numbers in what a shape is calculated from
_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Of one run. A multiplication and its addition are two FLOPs.

    `moved_bytes`: each counted node reads its inputs and writes its output once, weights included: the least if nothing
    stays in caches from one node to the next.
    """

    flops: int
    moved_bytes: int


def work_of_edit(bundle: Bundle, estimate: Estimate) -> Work:
    """The work of the UNet in a whole edit with a short instruction. Raises BundleError as `count_work`.

    A call with R rows costs a + b R: weights are read once for all rows.
    """
    manifest = bundle.manifest
    spec, scale = manifest.component(Component.UNET), manifest.latents.scale
    width, height = (side // scale for side in estimate.window_size)
    tokens = {"encoder_hidden_states": {1: manifest.tokenizers[0].max_length}, "sample": {2: height, 3: width}}

    def count(rows: int) -> Work:
        fixed = {each.name: {0: rows, **tokens.get(each.name, {})} for each in spec.inputs}
        shapes = {
            each.name: tuple(fixed[each.name].get(at, length) for at, length in enumerate(each.shape))
            for each in spec.inputs
        }
        return count_work(bundle.folder / spec.file, shapes)  # type: ignore[arg-type]  # named lengths are all fixed

    one, two = count(1), count(2)
    return Work(
        *(
            estimate.network_calls * (2 * first - second) + estimate.network_rows * (second - first)
            for first, second in ((one.flops, two.flops), (one.moved_bytes, two.moved_bytes))
        )
    )


def count_work(graph: Path, shapes: Mapping[str, _Shape]) -> Work:
    """The work of a network whose inputs have these shapes. Weights in other files are not read.

    Raises BundleError where the shape of a node that counts cannot be inferred.
    """
    return count_model(onnx.load(graph, load_external_data=False), shapes)


def count_model(model: onnx.ModelProto, shapes: Mapping[str, _Shape]) -> Work:
    """The same of a graph in memory, which is changed."""
    for given in model.graph.input:
        for dimension, length in zip(given.type.tensor_type.shape.dim, shapes[given.name], strict=True):
            dimension.dim_value = length
    known, widths = _infer(model)
    flops = moved = 0
    for node in model.graph.node:
        if node.op_type not in COUNTED:
            continue
        tensors = [name for name in (*node.input, *node.output) if name]
        unknown = [name for name in tensors if name not in known]
        if unknown:
            raise BundleError(
                f"the shape of {unknown[0]!r:.80} in the graph is not known", remedy="Export the checkpoint again"
            )
        flops += 2 * math.prod(known[node.output[0]]) * _summed(node, known)
        moved += sum(math.prod(known[name]) * widths[name] for name in tensors)
    return Work(flops, moved)


def _summed(node: onnx.NodeProto, known: Mapping[str, _Shape]) -> int:
    """How many products are added up for a number of the output."""
    if node.op_type == "Conv":
        return math.prod(known[node.input[1]][1:])
    flipped = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return known[node.input[0]][0 if flipped else -1]


def _infer(model: onnx.ModelProto) -> tuple[dict[str, _Shape], dict[str, int]]:
    """The shapes of all tensors that can be inferred, and the bytes of a number in each.

    onnx's inference stops where a shape is itself calculated, as exporters write attention: what depends on shapes
    only is calculated here and put in, and the inference repeated until it tells nothing new.
    """
    graph = model.graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer if _is_small(each)}
    while True:
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        infos = [*inferred.value_info, *inferred.input, *inferred.output]
        known = {info.name: shape for info in infos if (shape := _fixed(info)) is not None}
        known |= {each.name: tuple(each.dims) for each in inferred.initializer}
        folded = _fold(graph, known, values)
        if not folded:
            types = {info.name: info.type.tensor_type.elem_type for info in infos}
            types |= {each.name: each.data_type for each in inferred.initializer}
            widths = {name: helper.tensor_dtype_to_np_dtype(kind).itemsize for name, kind in types.items() if kind}
            return known, widths


def _fold(graph: onnx.GraphProto, known: Mapping[str, _Shape], values: dict[str, NDArray[Any]]) -> bool:
    """Replace nodes whose outputs are known by initializers; whether there were any."""
    kept, folded = [], False
    for node in graph.node:
        (output, *others) = node.output
        if node.op_type == "Shape" and node.input[0] in known and not node.attribute:
            made: NDArray[Any] = np.array(known[node.input[0]], np.int64)
        elif not others and all(name in values for name in node.input if name) and node.op_type not in COUNTED:
            given = {name: values[name] for name in node.input if name}
            answers: Any = ReferenceEvaluator(node).run(None, given)
            made = np.asarray(answers[0])
        else:
            kept.append(node)
            continue
        if made.size > _LARGEST_FOLDED:
            kept.append(node)
            continue
        values[output] = made
        graph.initializer.append(numpy_helper.from_array(made, output))
        folded = True
    del graph.node[:]
    graph.node.extend(kept)
    return folded


def _is_small(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location != onnx.TensorProto.EXTERNAL and math.prod(tensor.dims) <= _LARGEST_FOLDED


def _fixed(info: onnx.ValueInfoProto) -> _Shape | None:
    """A shape of which every length is known."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or not all(each.HasField("dim_value") for each in tensor.shape.dim):
        return None
    return tuple(each.dim_value for each in tensor.shape.dim)
