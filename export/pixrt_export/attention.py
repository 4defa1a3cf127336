"""Attention as ONNX Runtime's GPU kernels take it: one com.microsoft::MultiHeadAttention in the place of its parts.

A traced attention reshapes and transposes query, key and value, and is two products around a softmax. TensorRT fuses
that as it stands; ONNX Runtime does not, and keeps the whole matrix of scores. Must not import torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pixrt_export.folding import drop_unread, known_values

DOMAIN, KIND = "com.microsoft", "MultiHeadAttention"
_HEADS_FIRST, _HEADS_LAST = [0, 2, 1, 3], [0, 2, 3, 1]


def fuse_attention(path: Path) -> tuple[int, int]:
    """Rewrite the attentions of an FP32 file in place; how many were rewritten, and how many softmaxes are left.

    The weights are not touched, wherever they are.
    """
    model = onnx.load(str(path), load_external_data=False)
    typed = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    seen = _Seen(graph, known_values(typed.graph))
    count = sum(seen.fuse(node) for node in graph.node if node.op_type == "Softmax")
    if count:
        drop_unread(graph)
        made = {name for node in graph.node if node.op_type == KIND for name in node.output}
        # ONNX's inference does not know the node: what it makes has to be told, or all behind it has no type.
        graph.value_info.extend(value for value in typed.graph.value_info if value.name in made)
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
        onnx.save(model, str(path))
        onnx.checker.check_model(str(path))
    return count, sum(node.op_type == "Softmax" for node in graph.node)


class _Seen:
    """A graph by what makes a value and who reads it."""

    def __init__(self, graph: onnx.GraphProto, known: Mapping[str, Any]) -> None:
        self._known = known
        self._made = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}

    def fuse(self, softmax: onnx.NodeProto) -> bool:
        """Put one node in the place of the attention around a softmax; False where it is no such attention."""
        scores, product = self._maker(softmax.input[0], "MatMul"), self._reader(softmax.output[0], "MatMul")
        axis = next((attribute.i for attribute in softmax.attribute if attribute.name == "axis"), -1)
        if scores is None or product is None or product.input[0] != softmax.output[0] or axis not in (-1, 3):
            return False
        query, query_factor = self._unscaled(scores.input[0])
        key, key_factor = self._unscaled(scores.input[1])
        sides = [
            self._split(query, _HEADS_FIRST),
            self._split(key, _HEADS_LAST),
            self._split(product.input[1], _HEADS_FIRST),
        ]
        moved = self._reader(product.output[0], "Transpose")
        joined = self._reader(moved.output[0], "Reshape") if moved is not None else None
        heads = {side[1] for side in sides if side is not None}
        if moved is None or joined is None or None in sides or len(heads) != 1 or _order(moved) != _HEADS_FIRST:
            return False
        joined.CopyFrom(
            onnx.helper.make_node(
                KIND,
                [side[0] for side in sides if side is not None],
                [joined.output[0]],
                f"{softmax.name.removesuffix('Softmax')}{KIND}",
                domain=DOMAIN,
                num_heads=heads.pop(),
                scale=query_factor * key_factor,
            )
        )
        return True

    def _unscaled(self, name: str) -> tuple[str, float]:
        """A value without the number that it is multiplied by, and the number."""
        node = self._maker(name, "Mul")
        if node is None or node.input[1] not in self._known or np.size(self._known[node.input[1]]) != 1:
            return name, 1.0
        return node.input[0], float(np.asarray(self._known[node.input[1]]).item())

    def _split(self, name: str, order: list[int]) -> tuple[str, int] | None:
        """What was split into heads and transposed, `[batch, tokens, width]`, and the number of heads."""
        transpose = self._maker(name, "Transpose")
        reshape = self._maker(transpose.input[0], "Reshape") if transpose is not None else None
        shape = self._made.get(reshape.input[1]) if reshape is not None else None
        if transpose is None or reshape is None or shape is None or _order(transpose) != order:
            return None
        if shape.op_type != "Concat" or len(shape.input) != 4 or shape.input[2] not in self._known:
            return None
        return reshape.input[0], int(np.asarray(self._known[shape.input[2]]).item())

    def _maker(self, name: str, kind: str) -> onnx.NodeProto | None:
        node = self._made.get(name)
        return node if node is not None and node.op_type == kind else None

    def _reader(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The only reader of a value."""
        readers = [] if name in self._outputs else self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _order(transpose: onnx.NodeProto) -> list[int]:
    return next((list(attribute.ints) for attribute in transpose.attribute if attribute.name == "perm"), [])
