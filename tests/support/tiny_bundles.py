"""Bundles of networks of a few nodes, which TensorRT-RTX builds in a moment. Need onnx, not PyTorch."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pixrt.bundles.manifest import MANIFEST_NAME
from pixrt.bundles.store import BUILT_IN, sha256_file

UNET = {"sample": ("float16", ["batch", 8, "height", "width"]), "timestep": ("float32", ["batch"])}
UNET_TABLE = (
    UNET | {"encoder_hidden_states": ("float16", ["batch", "tokens", 64])},
    {"out_sample": ("float16", ["batch", 4, "height", "width"])},
)
ENCODER_TABLE = (
    {"sample": ("float16", ["batch", 3, "height", "width"])},
    {"latent_sample": ("float16", ["batch", 4, "latent_height", "latent_width"])},
)
TABLES = {"unet": UNET_TABLE, "vae_encoder": ENCODER_TABLE}


def tiny_bundle(folder: Path, *components: str, unsupported: bool = False, external: bool = False) -> Path:
    """A bundle of FP16 networks, of "unet" and "vae_encoder". `unsupported` adds nodes of an unknown operator."""
    folder.mkdir(parents=True)
    built_in = BUILT_IN / "shapes"
    value = json.loads((built_in / MANIFEST_NAME).read_text())
    names = [value["tokenizers"][0]["vocab"], value["tokenizers"][0]["merges"]]
    for name in names:
        shutil.copyfile(built_in / name, folder / name)
    entries = {}
    for component in components or ("unet",):
        _save(_model(component, unsupported), folder / f"{component}.onnx", external)
        entries[component] = value["components"][component] | {
            "file": f"{component}.onnx",
            "inputs": _table(TABLES[component][0]),
            "outputs": _table(TABLES[component][1]),
        }
    paths = sorted(folder.iterdir())
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths}
    value |= {"name": "tiny", "precision": "fp16", "components": entries, "files": files}
    (folder / MANIFEST_NAME).write_text(json.dumps(value))
    return folder


def _table(tensors: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "dtype": dtype, "shape": shape} for name, (dtype, shape) in tensors.items()]


def _model(component: str, unsupported: bool) -> Any:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs, outputs = (
        [
            helper.make_tensor_value_info(name, getattr(TensorProto, dtype.upper().replace("32", "")), shape)
            for name, (dtype, shape) in table.items()
        ]
        for table in TABLES[component]
    )
    rng = np.random.default_rng(0)
    channels, stride = (8, 1) if component == "unet" else (3, 4)
    weights = {"w": (rng.standard_normal((4, channels, 3, 3)) * 0.1).astype(np.float16)}
    name = outputs[0].name
    made = "conv" if component == "unet" else name
    nodes = [helper.make_node("Conv", ["sample", "w"], [made], name="conv", pads=[1] * 4, strides=[stride] * 2)]
    if component == "unet":
        weights |= {"inner": np.array([3], np.int64), "outer": np.array([1, 2, 3], np.int64)}
        nodes += [
            helper.make_node("ReduceMean", ["encoder_hidden_states"], ["mean"], axes=[1, 2]),
            helper.make_node("Unsqueeze", ["mean", "inner"], ["bias"]),
            helper.make_node("Cast", ["timestep"], ["time"], to=TensorProto.FLOAT16),
            helper.make_node("Unsqueeze", ["time", "outer"], ["scale"]),
            helper.make_node("Mul", ["conv", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "bias"], [name]),
        ]
    if unsupported:
        for index, node in enumerate(("/block/Strange", "/block/Stranger")):
            nodes.append(helper.make_node("Strange", [name], [f"odd{index}"], name=node, domain="pixrt.test"))
            outputs.append(helper.make_tensor_value_info(f"odd{index}", TensorProto.FLOAT16, None))
    tensors = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, component, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("pixrt.test", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert isinstance(model, onnx.ModelProto)
    return model


def _save(model: Any, path: Path, external: bool) -> None:
    import onnx

    options = {"save_as_external_data": True, "location": f"{path.name}_data", "size_threshold": 0}
    onnx.save(model, str(path), **(options if external else {}))
