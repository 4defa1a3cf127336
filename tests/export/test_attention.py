"""Attention written as one node: the same values on ONNX Runtime, every one of them found, and none that is another."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt.errors import OptionError
from pixrt_export.options import ExportOptions

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
ATTENTIONS = 14


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in UNet, as it was traced."""
    made = tmp_path_factory.mktemp("plain") / "unet.onnx"
    with open_bundle("shapes").loading(Component.UNET) as path:
        onnx.save(onnx.load(str(path)), str(made))
    return made


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(plain, tmp_path / "unet.onnx"))


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def run(path: Path) -> Any:
    sizes = {"batch": 3, "height": 16, "width": 12, "tokens": 77}
    generator = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {}
    for given in session.get_inputs():
        shape = [size if isinstance(size, int) else sizes.get(size, 3) for size in given.shape]
        feeds[given.name] = generator.standard_normal(shape).astype(np.float32)
    feeds["timestep"] = np.array([999, 500, 10], np.float32)
    return session.run(None, feeds)[0]


def test_the_values_are_the_plain_graphs(plain: Path, copy: Path) -> None:
    from pixrt_export.attention import KIND, fuse_attention

    assert kinds(plain).count("Softmax") == ATTENTIONS
    assert fuse_attention(copy) == (ATTENTIONS, 0)
    made = kinds(copy)
    assert made.count(KIND) == ATTENTIONS
    assert len(made) < len(kinds(plain)) - 30 * ATTENTIONS
    expected = run(plain)
    np.testing.assert_allclose(run(copy), expected, atol=1e-5 * np.abs(expected).max())


def test_what_is_behind_it_is_typed(plain: Path, copy: Path) -> None:
    """The conversion to FP16 goes by the types, which ONNX's own inference does not know of the node."""
    from pixrt_export.attention import fuse_attention

    def typed(path: Path) -> set[str]:
        return {value.name for value in onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph.value_info}

    before = typed(plain)
    fuse_attention(copy)
    made = {name for node in onnx.load(str(copy)).graph.node for name in node.output}
    assert before & made == typed(copy) & made


@pytest.mark.parametrize("change", ["a mask", "another axis", "scores that are read"])
def test_what_is_no_such_attention_stays(plain: Path, copy: Path, change: str) -> None:
    from pixrt_export.attention import fuse_attention

    model = onnx.load(str(copy))
    graph = model.graph
    at = next(number for number, node in enumerate(graph.node) if node.op_type == "Softmax")
    softmax = graph.node[at]
    if change == "a mask":
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32([0.5]), "mask"))
        graph.node.insert(at, onnx.helper.make_node("Add", [softmax.input[0], "mask"], ["masked"], "masking"))
        graph.node[at + 1].input[0] = "masked"
    elif change == "another axis":
        del softmax.attribute[:]
        softmax.attribute.append(onnx.helper.make_attribute("axis", -2))
    else:
        graph.output.append(onnx.helper.make_tensor_value_info(softmax.output[0], onnx.TensorProto.FLOAT, list("abcd")))
    onnx.save(model, str(copy))
    expected = run(copy)
    assert fuse_attention(copy) == (ATTENTIONS - 1, 1)
    np.testing.assert_allclose(run(copy), expected, atol=1e-5 * np.abs(expected).max())


def test_int8_is_of_other_backends(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="target is ort-cuda, and precision is int8"):
        ExportOptions(checkpoint="x", output=tmp_path, precision="int8", target="ort-cuda")
