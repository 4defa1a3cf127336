"""The layers that a LoRA can change: their shapes, their weights with LoRAs in them, their places in the ONNX files.

Tracing renames and transposes the weights of linear layers, so every place is found by its value, and read back.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import onnx
import torch
import transformers

from pixrt.backends.protocol import Array
from pixrt.bundles.manifest import Component
from pixrt.errors import CheckpointError
from pixrt.lora.merging import Factor, merge
from pixrt.lora.weights import WeightPlace, read_weight
from pixrt_export.checkpoint import Checkpoint

_DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
_SAMPLE = 64  # values that two weights are first told apart by


def layer_shapes(checkpoint: Checkpoint) -> dict[str, dict[str, tuple[int, ...]]]:
    """The weights' shapes by component and parameter name, out of the configs only."""
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(checkpoint.unet)
        text = transformers.CLIPTextModel(transformers.CLIPTextConfig.from_dict(checkpoint.text_encoder))
    parts = {Component.UNET: unet, Component.TEXT_ENCODER: text}
    return {part: {name: tuple(weight.shape) for name, weight in _weights(module)} for part, module in parts.items()}


def merge_into(module: torch.nn.Module, factors: Mapping[str, Sequence[Factor]]) -> None:
    """Merge LoRAs into a module's weights, in place. Raises LoraError if a sum is not finite."""
    weights = dict(_weights(module))
    with torch.no_grad():
        for name, given in factors.items():
            weights[name].copy_(torch.from_numpy(merge(name, weights[name].numpy(), given)))


def drop_source(unet: Any) -> None:
    """Cut the source's channels off the first layer of an edit checkpoint's UNet, in place.

    Source latents of zero add nothing to that layer, so without them the network computes the same.
    """
    layer, kept = unet.conv_in, unet.config.out_channels
    layer.weight = torch.nn.Parameter(layer.weight.detach()[:, :kept].clone())
    layer.in_channels = kept


def find_weights(module: torch.nn.Module, traced: Path) -> dict[str, WeightPlace]:
    """Where the FP32 graph at `traced` holds the weight of each layer of `module`, by parameter name.

    A layer whose weight the graph does not hold, transposed or as it is, is left out: no LoRA can change it there.
    """
    model = onnx.load(str(traced), load_external_data=False)
    initializers = dict(_initializers(model, traced))
    candidates: dict[Any, list[WeightPlace]] = {}
    for name, transposed in _uses(model.graph):
        if name in initializers:
            place = _place(initializers[name], traced, transposed)
            candidates.setdefault(_sample(read_weight(traced.parent, place)), []).append(place)
    found = {}
    for name, weight in _weights(module):
        values = weight.detach().numpy()
        for place in candidates.get(_sample(values), []):
            if np.array_equal(read_weight(traced.parent, place), values):
                found[name] = place
    return found


def follow_weights(
    found: Mapping[str, WeightPlace], traced: Path, path: Path, *, partly: bool = False
) -> dict[str, WeightPlace]:
    """The same weights in the graph at `path`, which `traced` was converted to; their values must match it.

    Raises CheckpointError if the conversion lost one, unless `path` is only a part of the graph.
    """
    model = onnx.load(str(path), load_external_data=False)
    initializers = dict(_initializers(model, path))
    followed = {}
    for name, old in found.items():
        # The conversion to FP16 renames what it keeps in FP32.
        kept = [key for key in (old.initializer, f"{old.initializer}/fp32") if key in initializers]
        if partly and not kept:
            continue
        new = _place(initializers[kept[0]], path, old.transposed) if kept else old
        before = read_weight(traced.parent, old).astype(new.dtype)
        if not kept or not np.array_equal(read_weight(path.parent, new), before):
            raise CheckpointError(f"{path.name} has lost the weight {name}", remedy="Export with --precision fp32")
        followed[name] = new
    return followed


def _weights(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            yield f"{name}.weight", layer.weight.detach()


def _uses(graph: onnx.GraphProto) -> Iterator[tuple[str, bool]]:
    """Every second operand of a layer, and whether it is a linear layer's weight transposed."""
    for node in graph.node:
        if node.op_type == "Conv":
            yield node.input[1], False
        elif node.op_type == "MatMul":
            yield node.input[1], True
        elif node.op_type == "Gemm":
            yield node.input[1], not any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _sample(weight: Array) -> tuple[tuple[int, ...], bytes]:
    """What equal weights have in common, without reading them whole."""
    return weight.shape, weight[:1].reshape(-1)[:_SAMPLE].tobytes()


Initializer = tuple[onnx.TensorProto, str, int]
"""A tensor, the file its values stand in, and the byte they begin at."""


def _initializers(model: onnx.ModelProto, path: Path) -> Iterator[tuple[str, Initializer]]:
    content, end = path.read_bytes(), 0
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            stored = {entry.key: entry.value for entry in tensor.external_data}
            yield tensor.name, (tensor, stored["location"], int(stored.get("offset", 0)))
        elif tensor.raw_data:
            # The message holds the tensor's name, so it stands only once in the file, and its values end it.
            message = tensor.SerializeToString()
            start = content.find(message, end)
            if start >= 0 and message.endswith(tensor.raw_data):
                end = start + len(message)
                yield tensor.name, (tensor, path.name, end - len(tensor.raw_data))


def _place(initializer: Initializer, path: Path, transposed: bool) -> WeightPlace:
    tensor, file, offset = initializer
    dtype = _DTYPES[tensor.data_type]
    return WeightPlace(tensor.name, transposed, dtype, tuple(tensor.dims), file, offset)  # type: ignore[arg-type]
