"""An exported ONNX file run by PyTorch, node by node, on tensors that are where they are.

What depends on shapes only is computed once, on the host, so that a run copies nothing to the device and can be
captured into a CUDA graph. It knows the nodes that pixrt exports, and names one that it does not know.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as functional
from onnx import numpy_helper

Attributes = dict[str, Any]
# Inputs that say how, not what: they are read on the host, and must not depend on data.
_ON_HOST = {
    **dict.fromkeys(("Reshape", "Expand", "Unsqueeze", "Squeeze", "Split", "ReduceSum"), (1,)),
    **{"Slice": (1, 2, 3, 4), "Resize": (1, 2, 3), "Pad": (1, 2, 3), "ConstantOfShape": (0,), "Range": (0, 1, 2)},
}


class TorchGraph:
    """The network of a file for one set of input shapes, on one device; weights are shared through `weights`.

    `widen` computes in FP32 what the file has in FP16: as a reference. `macs` are its multiply-accumulates.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, Sequence[int]],
        weights: Mapping[str, torch.Tensor],
        device: str,
        *,
        widen: bool = False,
    ) -> None:
        graph = onnx.load(str(path), load_external_data=False).graph
        self._device = device
        self._weights = weights
        self.outputs = [value.name for value in graph.output]
        static: dict[str, torch.Tensor] = {
            tensor.name: weights[tensor.name].cpu() for tensor in graph.initializer if _is_small(tensor)
        }
        meta: dict[str, torch.Tensor] = {name: value.to("meta") for name, value in weights.items()}
        for value in graph.input:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            meta[value.name] = torch.empty(tuple(shapes[value.name]), dtype=_type(dtype, widen), device="meta")
        self.macs = 0
        self._work: list[tuple[onnx.NodeProto, Attributes, dict[int, Any]]] = []
        for node in graph.node:
            given = _attributes(node) | {"widen": widen}
            if node.op_type == "Shape":
                sizes = list(meta[node.input[0]].shape)[given.get("start", 0) : given.get("end")]
                static[node.output[0]] = torch.tensor(sizes, dtype=torch.int64)
            elif all(name in static for name in node.input if name):
                made = _compute(node, given, [static[name] if name else None for name in node.input])
                static.update(zip(node.output, made, strict=True))
            else:
                # What is said on the host stays there; other constants go to the device, once.
                fixed: dict[int, Any] = {}
                arguments: list[Any] = []
                for index, name in enumerate(node.input):
                    if not name:
                        fixed[index] = None
                    elif index in _ON_HOST.get(node.op_type, ()):
                        if name not in static:
                            raise NotImplementedError(f"{node.op_type} {node.name} depends on data in {name}")
                        fixed[index] = static[name]
                    elif name in static:
                        fixed[index] = static[name].to(device)
                    arguments.append(fixed[index] if index in fixed else meta[name])
                on_meta = [
                    each.to("meta") if torch.is_tensor(each) and index not in _ON_HOST.get(node.op_type, ()) else each
                    for index, each in enumerate(arguments)
                ]
                meta.update(zip(node.output, _compute(node, given, on_meta), strict=True))
                self._work.append((node, given, fixed))
                self.macs += _macs(node, on_meta, meta[node.output[0]])
            for name in node.output:
                if name in static:
                    meta[name] = static[name].to("meta")
        self.shapes = {name: tuple(meta[name].shape) for name in self.outputs}
        self._static = {name: static[name].to(device) for name in self.outputs if name in static}
        last: dict[str, int] = {name: at for at, (node, _, _) in enumerate(self._work) for name in node.input}
        self._over = [
            [name for name in node.input if last.get(name) == at and name not in weights and name not in self.outputs]
            for at, (node, _, _) in enumerate(self._work)
        ]

    def __call__(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run it; the outputs by name."""
        values = dict(feeds)
        with torch.no_grad():
            for (node, given, fixed), over in zip(self._work, self._over, strict=True):
                arguments = [
                    fixed[index] if index in fixed else self._value(values, name)
                    for index, name in enumerate(node.input)
                ]
                values.update(zip(node.output, _compute(node, given, arguments), strict=True))
                for name in over:
                    values.pop(name, None)
        return {name: values[name] if name in values else self._static[name] for name in self.outputs}

    def _value(self, values: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return values[name] if name in values else self._weights[name]


def load_weights(path: Path, device: str, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """The initializers of a file on a device; those that are FP16 in another type where one is given."""
    graph = onnx.load(str(path), load_external_data=True).graph
    found = {}
    for tensor in graph.initializer:
        value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        if dtype is not None and value.dtype is torch.float16:
            value = value.to(dtype)
        found[tensor.name] = value.to(device)
    return found


def _is_small(tensor: Any) -> bool:
    return math.prod(tensor.dims) <= 4096


def _attributes(node: Any) -> Attributes:
    found = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _ints(tensor: Any) -> list[int]:
    return [] if tensor is None else [int(value) for value in tensor.reshape(-1).tolist()]


def _compute(node: Any, given: Attributes, x: list[Any]) -> Sequence[torch.Tensor]:
    if node.op_type not in _OPERATIONS:
        raise NotImplementedError(f"PyTorch's double does not know {node.op_type} ({node.name})")
    made = _OPERATIONS[node.op_type](x, given)
    return made if isinstance(made, (list, tuple)) else (made,)


def _type(dtype: Any, widen: bool) -> torch.dtype:
    made = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.float32 if widen and made is torch.float16 else made


def _macs(node: Any, x: list[Any], made: torch.Tensor) -> int:
    if node.op_type == "Conv":
        return made.numel() * math.prod(x[1].shape[1:])
    if node.op_type == "Gemm":
        return made.numel() * x[0].shape[0 if _attributes(node).get("transA") else 1]
    return made.numel() * x[0].shape[-1] if node.op_type == "MatMul" else 0


def _constant(x: list[Any], given: Attributes) -> torch.Tensor:
    values = numpy_helper.to_array(given["value"])
    return torch.from_numpy(values.copy()).to(_type(values.dtype, given["widen"]))


def _gather(x: list[Any], given: Attributes) -> torch.Tensor:
    data, index = x
    axis = given.get("axis", 0) % data.ndim
    picked = data.index_select(axis, index.reshape(-1).long() % data.shape[axis])
    return picked.reshape((*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]))


def _reshape(x: list[Any], given: Attributes) -> torch.Tensor:
    sizes = [x[0].shape[at] if size == 0 else size for at, size in enumerate(_ints(x[1]))]
    return x[0].reshape(sizes)


def _unsqueeze(x: list[Any], given: Attributes) -> torch.Tensor:
    made, axes = x[0], _ints(x[1])
    for axis in sorted(each % (made.ndim + len(axes)) for each in axes):
        made = made.unsqueeze(axis)
    return made


def _squeeze(x: list[Any], given: Attributes) -> torch.Tensor:
    axes = _ints(x[1]) if len(x) > 1 else []
    return x[0].squeeze(tuple(axes)) if axes else x[0].squeeze()


def _slice(x: list[Any], given: Attributes) -> torch.Tensor:
    starts, ends = _ints(x[1]), _ints(x[2])
    axes = _ints(x[3]) if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = _ints(x[4]) if len(x) > 4 and x[4] is not None else [1] * len(starts)
    made = x[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            if (start, step) != (-1, -1) or end > -made.shape[axis]:
                raise NotImplementedError(f"a slice from {start} to {end} by {step}")
            made, start, end, step = made.flip(axis), 0, made.shape[axis], 1
        made = made[(slice(None),) * (axis % made.ndim) + (slice(start, end, step),)]
    return made


def _cast(x: list[Any], given: Attributes) -> torch.Tensor:
    return x[0].to(_type(onnx.helper.tensor_dtype_to_np_dtype(given["to"]), given["widen"]))


def _divide(x: list[Any], given: Attributes) -> torch.Tensor:
    return x[0] / x[1] if x[0].is_floating_point() else torch.div(x[0], x[1], rounding_mode="trunc")


def _filled(x: list[Any], given: Attributes) -> torch.Tensor:
    value = numpy_helper.to_array(given["value"]) if "value" in given else np.zeros(1, np.float32)
    return torch.from_numpy(value.copy()).expand(_ints(x[0]) or []).clone()


def _expand(x: list[Any], given: Attributes) -> torch.Tensor:
    return x[0].expand(torch.broadcast_shapes(x[0].shape, tuple(_ints(x[1]))))


def _layer_norm(x: list[Any], given: Attributes) -> torch.Tensor:
    axis = given.get("axis", -1) % x[0].ndim
    return functional.layer_norm(
        x[0], x[0].shape[axis:], x[1], x[2] if len(x) > 2 else None, given.get("epsilon", 1e-5)
    )


def _gemm(x: list[Any], given: Attributes) -> torch.Tensor:
    left, right = (each.T if given.get(name) else each for each, name in zip(x, ("transA", "transB"), strict=False))
    made = given.get("alpha", 1.0) * (left @ right)
    return made + given.get("beta", 1.0) * x[2] if len(x) > 2 and x[2] is not None else made


def _convolution(x: list[Any], given: Attributes) -> torch.Tensor:
    rank = x[1].ndim - 2
    pads = given.get("pads", [0] * 2 * rank)
    begin, end = pads[:rank], pads[rank:]
    values, padding = x[0], list(begin)
    if begin != end:
        values = functional.pad(values, [each for pair in zip(begin[::-1], end[::-1], strict=True) for each in pair])
        padding = [0] * rank
    convolve = functional.conv2d if rank == 2 else functional.conv1d
    bias = x[2] if len(x) > 2 else None
    ones = [1] * rank
    return convolve(
        values,
        x[1],
        bias,
        given.get("strides", ones),
        padding,
        given.get("dilations", ones),
        given.get("group", 1),
    )


def _resize(x: list[Any], given: Attributes) -> torch.Tensor:
    sizes = (
        _ints(x[3])[2:]
        if len(x) > 3 and x[3] is not None
        else [int(size * scale) for size, scale in zip(x[0].shape[2:], x[2].tolist()[2:], strict=True)]
    )
    return functional.interpolate(x[0], size=sizes, mode="nearest")


def _split(x: list[Any], given: Attributes) -> Sequence[torch.Tensor]:
    axis = given.get("axis", 0)
    if len(x) > 1 and x[1] is not None:
        return x[0].split(_ints(x[1]), axis)
    return x[0].chunk(given["num_outputs"], axis)


def _pad(x: list[Any], given: Attributes) -> torch.Tensor:
    pads, rank = _ints(x[1]), x[0].ndim
    axes = _ints(x[3]) if len(x) > 3 and x[3] is not None else list(range(rank))
    begin, end = [0] * rank, [0] * rank
    for at, axis in enumerate(axes):
        begin[axis], end[axis] = pads[at], pads[at + len(axes)]
    value = float(x[2]) if len(x) > 2 and x[2] is not None else 0.0
    flat = [each for pair in zip(begin[::-1], end[::-1], strict=True) for each in pair]
    return functional.pad(x[0], flat, value=value)


def _reduce_sum(x: list[Any], given: Attributes) -> torch.Tensor:
    axes = _ints(x[1]) if len(x) > 1 else list(range(x[0].ndim))
    return x[0].sum(axes, keepdim=bool(given.get("keepdims", 1)))


_OPERATIONS: Mapping[str, Callable[[list[Any], Attributes], Any]] = {
    "Add": lambda x, given: x[0] + x[1],
    "Cast": _cast,
    "Concat": lambda x, given: torch.cat(x, given["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Conv": _convolution,
    "Cos": lambda x, given: torch.cos(x[0]),
    "Div": _divide,
    "Equal": lambda x, given: x[0] == x[1],
    "Erf": lambda x, given: torch.erf(x[0]),
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "Greater": lambda x, given: x[0] > x[1],
    "Identity": lambda x, given: x[0],
    "InstanceNormalization": lambda x, given: functional.instance_norm(
        x[0], weight=x[1], bias=x[2], eps=given.get("epsilon", 1e-5)
    ),
    "LayerNormalization": _layer_norm,
    "Less": lambda x, given: x[0] < x[1],
    "MatMul": lambda x, given: x[0] @ x[1],
    "Mul": lambda x, given: x[0] * x[1],
    "Pad": _pad,
    "Range": lambda x, given: torch.arange(int(x[0]), int(x[1]), int(x[2])).to(x[0].dtype),
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda x, given: torch.sigmoid(x[0]),
    "Sin": lambda x, given: torch.sin(x[0]),
    "Slice": _slice,
    "Softmax": lambda x, given: torch.softmax(x[0], given.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda x, given: torch.sqrt(x[0]),
    "Squeeze": _squeeze,
    "Sub": lambda x, given: x[0] - x[1],
    "Sum": lambda x, given: sum(x[1:], x[0]),
    "Transpose": lambda x, given: x[0].permute(given["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": lambda x, given: torch.where(x[0], x[1], x[2]),
}
