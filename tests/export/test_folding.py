"""An attention's scale in FP16: folded before the conversion, against FP32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

F32, I64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
LENGTH = 6


def scores(path: Path, head: int, *, free: bool = False) -> Path:
    """Query and key, each multiplied by the root of 1 / sqrt(head), as the exporter writes it."""
    node = onnx.helper.make_node
    tensors = {
        "heads": np.array([0, LENGTH, 2, head], np.int64),
        "last": np.array([-1], np.int64),
        "end": np.array([2**63 - 1], np.int64),
        "one": np.array([1], np.float32),
    }
    nodes = [
        node("Reshape", ["q", "heads"], ["q4"], "q4"),
        node("Reshape", ["k", "heads"], ["k4"], "k4"),
        node("Transpose", ["q4"], ["qt"], "qt", perm=[0, 2, 1, 3]),
        node("Transpose", ["k4"], ["kt"], "kt", perm=[0, 2, 3, 1]),
        node("Shape", ["q" if free else "qt"], ["shape"], "shape"),
        node("Slice", ["shape", "last", "end"], ["size"], "size"),
        node("Cast", ["size"], ["number"], "number", to=F32),
        node("Sqrt", ["number"], ["root"], "root"),
        node("Div", ["one", "root"], ["scale"], "scale"),
        node("Sqrt", ["scale"], ["for_q"], "for_q"),
        node("Sqrt", ["scale"], ["for_k"], "for_k"),
        node("Mul", ["qt", "for_q"], ["qs"], "qs"),
        node("Mul", ["kt", "for_k"], ["ks"], "ks"),
        node("MatMul", ["qs", "ks"], ["scores"], "scores"),
    ]
    width = "width" if free else 2 * head
    inputs = [onnx.helper.make_tensor_value_info(name, F32, ["batch", LENGTH, width]) for name in "qk"]
    outputs = [onnx.helper.make_tensor_value_info("scores", F32, ["batch", 2, LENGTH, LENGTH])]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph(nodes, "scores", inputs, outputs, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def run(path: Path, q: Any, k: Any) -> Any:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"q": q, "k": k})[0]


@pytest.mark.parametrize("head", [8, 40, 64, 80, 160])
def test_scores_in_fp16_against_fp32(tmp_path: Path, head: int) -> None:
    """Ones, so that nothing but the scale is rounded: in FP16 it alone would be up to 6.1e-4 off."""
    from pixrt_export.precision import to_fp16

    single, half = scores(tmp_path / "single.onnx", head), tmp_path / "half.onnx"
    ones = np.ones((1, LENGTH, 2 * head), np.float32)
    expected = run(single, ones, ones)
    to_fp16(single, half, [{"q": ones, "k": ones}])
    graph = onnx.load(str(half)).graph
    assert not {node.op_type for node in graph.node} & {"Sqrt", "Div", "Shape"}
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    factors = [weights[node.input[1]].astype(np.float64) for node in graph.node if node.op_type == "Mul"]
    assert all(weights[node.input[1]].dtype == np.float16 for node in graph.node if node.op_type == "Mul")
    assert abs(float((factors[0] * factors[1]).item()) * head**0.5 - 1) < 5e-6
    # What is left is the rounding of the products to 11 bits.
    np.testing.assert_allclose(run(half, ones.astype(np.float16), ones.astype(np.float16)), expected, rtol=2.0**-10)


def test_what_depends_on_an_input_is_not_folded(tmp_path: Path) -> None:
    from pixrt_export.folding import fold_sizes

    model = onnx.shape_inference.infer_shapes(onnx.load(str(scores(tmp_path / "it.onnx", 40, free=True))))
    before = [node.name for node in model.graph.node]
    assert fold_sizes(model) == []
    assert [node.name for node in model.graph.node] == before


@pytest.mark.parametrize("number", [1.0, 0.25, 40**-0.5, 80**-0.5, 1e-3, 3.0, 1000.0])
def test_two_halves_whose_product_is_right(number: float) -> None:
    from pixrt_export.folding import halves

    pair = halves(number)
    assert all(float(np.float16(factor)) == factor for factor in pair)
    assert abs(pair[0] * pair[1] / number - 1) < 5e-6
    assert abs(pair[0] / number**0.5 - 1) < 0.3  # neither is far from the root: nothing overflows
