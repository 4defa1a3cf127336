"""From a PyTorch module to an ONNX file in FP32, and how an ONNX file is written to disk.

Tracing is done in FP32 always: FP16 is a conversion of the graph, in `precision`.
"""

import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
from optimum.exporters.onnx.convert import export_pytorch

from pixrt.backends.ort.session import EXACT
from pixrt_export.components import Traceable
from pixrt_export.options import OPSET

# From here on the weights stand beside the graph. Protobuf ends at 2 GiB; but already smaller files are better apart:
# ONNX Runtime maps weights that stand outside, and holds those inside twice while it opens a file.
EXTERNAL_ABOVE_BYTES = 2**25


def trace(network: Traceable, path: Path) -> None:
    """Trace into `path`, FP32, with the weights beside it (`NAME.onnx_data`) if they are large."""
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of every Python condition on a shape; the check against PyTorch at other shapes decides.
        warnings.simplefilter("ignore")
        export_pytorch(network.module, network.config, OPSET, path)
    model = onnx.load(str(path), load_external_data=False)
    _fix_free_dimensions(network, model)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        _strip(model)  # the weights stay where they are
        onnx.save(model, str(path))
        onnx.checker.check_model(str(path))
        return
    save(model, path)


def _fix_free_dimensions(network: Traceable, model: onnx.ModelProto) -> None:
    """Give a number to output dimensions that the tracer left free beyond those the config names."""
    (output,) = model.graph.output
    named = network.config.outputs[output.name]
    unnamed = [(axis, size) for axis, size in enumerate(output.type.tensor_type.shape.dim) if axis not in named]
    if all(size.HasField("dim_value") for _, size in unnamed):
        return
    with torch.no_grad():
        result = network.module(**network.config.generate_dummy_inputs())[output.name]
    for axis, size in unnamed:
        size.dim_value = result.shape[axis]


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model without anything that names the machine or the moment, weights outside if they are large."""
    _strip(model)
    external = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_ABOVE_BYTES
    data = path.with_name(f"{path.name}_data")
    data.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
    else:
        onnx.save(model, str(path))
    onnx.checker.check_model(str(path))


def _strip(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """An ONNX file on the CPU, without ONNX Runtime's remarks on its graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in EXACT.items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def files_of(path: Path) -> list[Path]:
    """The ONNX file and, if its weights stand outside, their file."""
    data = path.with_name(f"{path.name}_data")
    return [path, data] if data.exists() else [path]
