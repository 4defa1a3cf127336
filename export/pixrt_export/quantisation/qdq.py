"""A graph whose layers read quantised values, as the quantiser makes it: layers put back or switched, weights folded.

A layer (a convolution or a matrix product) is quantised where what it reads comes out of QuantizeLinear and
DequantizeLinear. What goes into those is the same value in FP32, so a layer is put back by reading that.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import make_node, make_tensor_value_info

LAYERS = ("Conv", "Gemm", "MatMul")
SWITCHES = "quantised"
# What only moves values: quantisers stand before it as well as behind it.
_MOVING = ("Reshape", "Transpose", "Resize", "Squeeze", "Unsqueeze")


class QuantisedGraph:
    """The layers of a quantised model, by name. The model is changed in place, by one of the methods."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._places: dict[str, tuple[tuple[onnx.NodeProto, int], ...]] = {}
        for node in model.graph.node:
            places = tuple(self._find_places(node)) if node.op_type in LAYERS else ()
            if places:
                self._places[node.name] = places
        self._drop_others()

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that are quantised, in the graph's order."""
        return tuple(self._places)

    def put_back(self, layers: Collection[str]) -> None:
        """Let these layers read FP32 again, and store the weights of the others as INT8."""
        for name in layers:
            for node, index in self._places[name]:
                node.input[index] = self._exact(node.input[index])
        self._prune()
        self._fold_weights()

    def add_switches(self, units: Sequence[Collection[str]]) -> None:
        """Give the graph an input, `SWITCHES`: for each unit of layers, whether it is quantised in this run."""
        graph = self.model.graph
        nodes, before = [], dict[int, list[onnx.NodeProto]]()
        for number, unit in enumerate(units):
            at, is_on = f"switch/{number}/at", f"switch/{number}"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(number), at))
            nodes.append(make_node("Gather", [SWITCHES, at], [is_on], f"{is_on}/Gather"))
            for node, index in (place for name in unit for place in self._places[name]):
                given, picked = node.input[index], f"{node.name}/{index}/switched"
                if not given.endswith("/switched"):  # else moved for another layer too
                    choice = make_node("Where", [is_on, given, self._exact(given)], [picked], f"{picked}/Where")
                    before.setdefault(id(node), []).append(choice)
                    node.input[index] = picked
        for node in graph.node:
            nodes += [*before.get(id(node), ()), node]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.input.append(make_tensor_value_info(SWITCHES, onnx.TensorProto.BOOL, [len(units)]))

    def _find_places(self, layer: onnx.NodeProto) -> Iterator[tuple[onnx.NodeProto, int]]:
        """Where a layer, or what only moves its inputs, reads dequantised values."""
        for index in (0, 1):
            node, at = layer, index
            while (producer := self._producers.get(node.input[at])) is not None and producer.op_type in _MOVING:
                node, at = producer, 0
            if producer is not None and producer.op_type == "DequantizeLinear":
                yield node, at

    def _drop_others(self) -> None:
        """What is no layer reads FP32: a resize before a layer, say, which is quantised behind it once more."""
        theirs = {(id(node), index) for places in self._places.values() for node, index in places}
        for node in self.model.graph.node:
            for index, name in enumerate(node.input):
                producer = self._producers.get(name)
                if producer is not None and producer.op_type == "DequantizeLinear" and (id(node), index) not in theirs:
                    node.input[index] = self._exact(name)

    def _exact(self, name: str) -> str:
        """The FP32 value that a dequantised one stands for."""
        return str(self._producers[self._producers[name].input[0]].input[0])

    def _fold_weights(self) -> None:
        graph = self.model.graph
        values = {tensor.name: tensor for tensor in graph.initializer}
        for node in [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in values]:
            weight, scale, zero = (onnx.numpy_helper.to_array(values[name]) for name in node.input)
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            folded = quantise(weight, scale, zero, axis)
            graph.initializer.append(onnx.numpy_helper.from_array(folded, node.output[0]))
            graph.node.remove(node)
        self._prune()

    def _prune(self) -> None:
        """Drop the nodes and weights that nothing reads."""
        graph = self.model.graph
        read = {value.name for value in graph.output}
        nodes = []
        for node in reversed(graph.node):
            if read.intersection(node.output):
                read.update(node.input)
                nodes.append(node)
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(reversed(nodes))
        graph.initializer.extend(kept)
        self._producers = {name: node for node in graph.node for name in node.output}


def quantise(values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], axis: int) -> NDArray[Any]:
    """QuantizeLinear in NumPy: with one scale, or one for each place along an axis."""
    if scale.ndim:
        shape = [1] * values.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    bounds = np.iinfo(zero.dtype)
    whole: NDArray[Any] = np.clip(np.rint(values / scale) + zero, bounds.min, bounds.max).astype(zero.dtype)
    return whole
