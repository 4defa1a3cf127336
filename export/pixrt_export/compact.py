"""An FP32 network's weights in the checkpoint's own form: FP16, in a safetensors file by the checkpoint's names.

An ONNX initializer may stand anywhere in a file, so the file that ONNX Runtime maps is the file that diffusers opens,
and a bundle holds its checkpoint. Casts and transpositions of constants are computed once, when a network is opened.
Only what loses nothing is stored so: an FP16 checkpoint.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.helper import make_node
from safetensors.numpy import save_file

from pixrt.errors import OptionError
from pixrt.lora.safetensors import TensorFile
from pixrt.lora.weights import WeightPlace
from pixrt_export.tracing import files_of


def compact(path: Path, module: torch.nn.Module, target: Path) -> dict[str, WeightPlace]:
    """Move the weights of the FP32 graph at `path` to the safetensors file `target`, written if it is not there.

    Returns where each parameter of `module` stands that the graph uses. Raises OptionError for weights that are not
    FP16's.
    """
    state = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    if not target.exists():
        save_file({name: _halved(name, values) for name, values in state.items()}, target, {"format": "pt"})
    stored = TensorFile(target).places
    known = {key: name for name, values in reversed(state.items()) for key in _keys(values)}
    model = onnx.load(str(path))
    graph = model.graph
    casts: list[onnx.NodeProto] = []
    places: dict[str, WeightPlace] = {}
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        name = known.get(_key(values))
        if tensor.data_type != onnx.TensorProto.FLOAT or name is None:
            continue
        shape, offset, length = stored[name]
        # A square weight may be both: what it is written as decides.
        transposed = not np.array_equal(values, state[name])
        casts += _restore(tensor.name, transposed)
        places[name] = WeightPlace(f"{tensor.name}/fp16", False, "float16", shape, target.name, offset)
        tensor.CopyFrom(_outside(places[name], length))
    nodes = [*casts, *graph.node]
    for at, node in enumerate(nodes):
        node.name = str(at)  # the tracer's are a fifth of the file
    del graph.node[:]
    graph.node.extend(nodes)
    for file in files_of(path):
        file.unlink()
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path))
    return places


def _halved(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype != np.float32:
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.array_equal(half, values):
        raise OptionError(
            f"compact is given, and {name} is not in FP16",
            remedy="Leave it out, or choose --precision fp16-weights, which rounds",
            option="compact",
        )
    return half


def _keys(values: np.ndarray[Any, Any]) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """What finds a parameter in a graph: as it is, and transposed."""
    yield _key(values)
    if values.ndim == 2:
        yield _key(values.T)


def _key(values: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], bytes]:
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).data).digest()


def _restore(name: str, transposed: bool) -> Iterator[onnx.NodeProto]:
    """The nodes that make the FP32 value `name` of what is stored."""
    half = f"{name}/fp16"
    if transposed:
        yield make_node("Transpose", [half], [f"{name}/turned"], perm=[1, 0])
        half = f"{name}/turned"
    yield make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT)


def _outside(place: WeightPlace, length: int) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=place.initializer, data_type=onnx.TensorProto.FLOAT16, dims=place.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place.file), ("offset", place.offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
