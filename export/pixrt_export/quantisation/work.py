"""How much work each layer of a network is."""

from pathlib import Path

import numpy as np
import onnx
from onnx.helper import make_node, make_tensor_value_info

from pixrt_export.precision import Feeds
from pixrt_export.quantisation.qdq import LAYERS
from pixrt_export.tracing import open_session


def count_macs(path: Path, feeds: Feeds) -> dict[str, int]:
    """Multiply-accumulates of every layer of an FP32 graph on these inputs, by the layer's name."""
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    known = {tensor.name: np.array(tensor.dims) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in LAYERS]
    asked = dict.fromkeys(name for node in layers for name in (node.input[0], node.output[0]) if name not in known)
    del graph.output[:]
    for name in asked:
        graph.node.append(make_node("Shape", [name], [f"{name}/shape"], f"{name}/shape/Shape"))
        graph.output.append(make_tensor_value_info(f"{name}/shape", onnx.TensorProto.INT64, [None]))
    measured = path.with_name(f"{path.stem}.shapes.onnx")
    try:
        onnx.save(model, str(measured))
        shapes = dict(zip(asked, open_session(measured).run(None, feeds), strict=True)) | known
    finally:
        measured.unlink(missing_ok=True)
    inner = {
        node.name: shapes[node.input[1]][1:] if node.op_type == "Conv" else shapes[node.input[0]][-1:]
        for node in layers
    }
    return {node.name: int(shapes[node.output[0]].prod() * inner[node.name].prod()) for node in layers}
