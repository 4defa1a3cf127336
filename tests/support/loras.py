"""Small LoRA files of random weights, written in NumPy, for the model `shapes` and for others."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pixrt.bundles.store import open_bundle
from pixrt.lora.weights import read_table

Tensors = dict[str, np.ndarray[Any, Any]]
_NAMES = {np.dtype("f4"): "F32", np.dtype("f2"): "F16", np.dtype("f8"): "F64", np.dtype("u2"): "BF16"}

TABLE = read_table(open_bundle("shapes", verify=False))
SHAPES = {part: {name: place.parameter_shape for name, place in places.items()} for part, places in TABLE.items()}
ATTENTION = [name.removesuffix(".weight") for name in SHAPES["unet"] if ".attn" in name]
CONVS = ["conv_in", "conv_out", "down_blocks.0.resnets.0.conv1", "down_blocks.0.attentions.0.proj_in"]
TEXT = [name.removesuffix(".weight") for name in SHAPES["text_encoder"]]


def lora(layers: Iterable[str], *, part: str = "unet", rank: int = 2, seed: int = 0, size: float = 0.2) -> Tensors:
    """Random factors for layers of the model `shapes`, spelt as peft spells them."""
    generator = np.random.default_rng(seed)
    tensors: Tensors = {}
    for layer in layers:
        out, *rest = SHAPES[part][f"{layer}.weight"]
        for name, shape in (("lora_A", (rank, *rest)), ("lora_B", (out, rank, *(1 for _ in rest[1:])))):
            tensors[f"{part}.{layer}.{name}.weight"] = size * generator.standard_normal(shape).astype(np.float32)
    return tensors


def write(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file; an array of uint16 is written as bfloat16."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, array in tensors.items():
        offsets = [end, end := end + array.nbytes]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in tensors.values()))
    return path
