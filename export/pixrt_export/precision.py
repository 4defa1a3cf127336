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

from pixrt.errors import CheckpointError
from pixrt_export.folding import fold_sizes
from pixrt_export.tracing import open_session, save

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

# FP16 ends at 65504. Calibration sees a few inputs only, so a node is kept well before that.
LIMIT = 65504 / 8
# Attention masks hold the smallest float. In a softmax anything this far below the scores is as good.
MASK = -LIMIT / 2
# What ONNX defines only in FP32: whole operators, and single inputs (the region and scales of Resize).
FP32_OPERATORS = ("Range",)
FP32_INPUTS = {"Resize": (1, 2)}
Feeds = dict[str, np.ndarray[Any, Any]]


def to_fp16(source: Path, target: Path, calibration: Sequence[Feeds]) -> tuple[str, ...]:
    """Convert the graph at `source` into `target`; returns the names of the nodes kept in FP32."""
    _soften_masks(source)
    ranges = activation_ranges(source, calibration)
    inferred = onnx.shape_inference.infer_shapes(onnx.load(str(source), load_external_data=False), data_prop=True)
    model = onnx.load(str(source))
    model.graph.value_info.extend(inferred.graph.value_info)
    fold_sizes(model)
    _lift_constants(model.graph)
    large = {tensor.name for tensor in model.graph.initializer if _is_float(tensor) and _largest(tensor) > LIMIT}
    floats = _floats(inferred.graph)
    kept = _timestep_nodes(model.graph) | {
        node.name
        for node in model.graph.node
        if (node.op_type in FP32_OPERATORS and node.output[0] in floats)
        or any(name in large or ranges.get(name, 0.0) > LIMIT for name in (*node.input, *node.output))
    }
    order = [node.name for node in model.graph.node if node.name in kept]
    _Conversion(model.graph, floats, kept, ranges).run()
    save(model, target)
    return tuple(order)


class _Conversion:
    """Rewrites a graph in place. A value may exist in both precisions; a cast is added where it is first needed."""

    def __init__(self, graph: onnx.GraphProto, floats: set[str], kept: set[str], ranges: dict[str, float]) -> None:
        self._graph = graph
        self._floats = floats
        self._kept = kept
        self._ranges = ranges
        self._given = {tensor.name: tensor for tensor in graph.initializer}
        # The names under which a value exists so far, by (value, precision).
        self._versions: dict[tuple[str, int], str] = {}
        self._weights: dict[str, onnx.TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        """Convert inputs, nodes, weights and outputs."""
        for value in self._graph.input:
            if value.name in self._floats:
                precision = FLOAT if value.name == "timestep" else HALF
                value.type.tensor_type.elem_type = precision
                self._versions[value.name, precision] = value.name
        for node in self._graph.node:
            self._convert(node)
        for value in self._graph.output:
            if self._versions.get((value.name, FLOAT)) == value.name:
                self._halve_output(value.name)
            if value.name in self._floats:
                value.type.tensor_type.elem_type = HALF
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(self._weights.values())

    def _halve_output(self, name: str) -> None:
        """Cast an output that a kept node writes; the node writes under another name."""
        if self._ranges.get(name, 0.0) > LIMIT:
            raise CheckpointError(
                f"the output {name} is beyond the range of FP16", remedy="Export with --precision fp32"
            )
        single = f"{name}/fp32"
        for node in self._nodes:
            node.input[:] = [single if given == name else given for given in node.input]
            node.output[:] = [single if given == name else given for given in node.output]
        self._nodes.append(onnx.helper.make_node("Cast", [single], [name], f"{name}/fp16/Cast", to=HALF))

    def _convert(self, node: onnx.NodeProto) -> None:
        precision = FLOAT if node.name in self._kept else HALF
        for index, name in enumerate(node.input):
            wanted = FLOAT if index in FP32_INPUTS.get(node.op_type, ()) else precision
            if name in self._floats:
                node.input[index] = self._version(name, wanted)
            elif name in self._given:
                self._weights[name] = self._given[name]
        if precision == HALF:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = HALF
                elif attribute.name == "value" and attribute.t.data_type == FLOAT:
                    attribute.t.CopyFrom(_half(attribute.t))
        self._nodes.append(node)
        self._versions |= {(name, precision): name for name in node.output if name in self._floats}

    def _version(self, name: str, precision: int) -> str:
        """The name of a value in a precision, made if it does not exist yet. FP16 weights keep their names."""
        if (name, precision) not in self._versions:
            new = f"{name}/fp32" if precision == FLOAT else f"{name}/fp16"
            if name in self._given:
                new = name if precision == HALF else new
                weight = _half(self._given[name]) if precision == HALF else self._given[name]
                self._weights[new] = onnx.TensorProto()
                self._weights[new].CopyFrom(weight)
                self._weights[new].name = new
            else:
                self._nodes.append(onnx.helper.make_node("Cast", [name], [new], f"{new}/Cast", to=precision))
            self._versions[name, precision] = new
        return self._versions[name, precision]


def _floats(graph: onnx.GraphProto) -> set[str]:
    """The names of the FP32 tensors of a graph whose types have been inferred."""
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == FLOAT} | {
        tensor.name for tensor in graph.initializer if _is_float(tensor)
    }


def _half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)


def _is_float(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == FLOAT)


def _largest(tensor: onnx.TensorProto) -> float:
    return float(np.abs(onnx.numpy_helper.to_array(tensor)).max(initial=0.0))


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Float constants become weights, which can be had in both precisions without a cast."""
    constants = [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in constants:
        tensor = node.attribute[0].t
        if _is_float(tensor):
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
            graph.node.remove(node)


def _soften_masks(path: Path) -> None:
    """Replace the masking constants of a traced graph, which would overflow to -inf, by `MASK`."""
    model = onnx.load(str(path), load_external_data=False)
    smallest, found = np.finfo(np.float32).min, False
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                value = onnx.numpy_helper.to_array(attribute.t, base_dir=str(path.parent))
                if (value == smallest).any():
                    softened = np.where(value == smallest, np.float32(MASK), value)
                    attribute.t.CopyFrom(onnx.numpy_helper.from_array(softened))
                    found = True
    if found:
        onnx.save(model, str(path))


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
        model.graph.node.append(onnx.helper.make_node("Abs", [name], [f"{name}/abs"]))
        model.graph.node.append(onnx.helper.make_node("ReduceMax", [f"{name}/abs"], [f"{name}/max"], keepdims=0))
        model.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}/max", onnx.TensorProto.FLOAT, []))
    measured = path.with_name(f"{path.stem}.ranges.onnx")
    try:
        onnx.save(model, str(measured))
        session = open_session(measured)
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
