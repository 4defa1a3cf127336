"""FP16 in the graph, and FP16 as a way of storing weights: what overflows stays FP32 and is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.errors import CheckpointError

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.torch

F32, F16, I64 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64


def value(name: str, *shape: Any, kind: int = F32) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def write(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any]) -> Path:
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, inputs, [output], name=f"{output}_node", **attributes)


def run(path: Path, **feeds: Any) -> Any:
    from pixrt_export.tracing import open_session

    onnx.checker.check_model(str(path), full_check=True)
    return open_session(path).run(None, feeds)[0]


def dtypes(path: Path) -> dict[str, int]:
    graph = onnx.load(str(path)).graph
    return {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_what_overflows_stays_fp32_and_is_named(tmp_path: Path) -> None:
    from pixrt_export.precision import to_fp16

    generator = np.random.default_rng(0)
    up, down = (generator.standard_normal((4, 4)).astype(np.float32) for _ in range(2))
    path = write(
        tmp_path / "it.onnx",
        [
            node("MatMul", ["x", "calm_weight"], "calm"),
            node("MatMul", ["calm", "up_weight"], "huge"),
            node("MatMul", ["huge", "down_weight"], "y"),
        ],
        [value("x", "batch", 4)],
        [value("y", "batch", 4)],
        {"calm_weight": np.eye(4, dtype=np.float32), "up_weight": up * 1e5, "down_weight": down * 1e-5},
    )
    x = generator.standard_normal((5, 4)).astype(np.float32)
    expected = run(path, x=x)
    kept = to_fp16(path, tmp_path / "half.onnx", [{"x": x}])
    assert set(kept) == {"huge_node", "y_node"}
    found = run(tmp_path / "half.onnx", x=x.astype(np.float16))
    assert found.dtype == np.float16
    # The input is rounded to 11 bits, the rest is FP32.
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert dtypes(tmp_path / "half.onnx")["calm_weight"] == F16
    assert F32 in {kind for name, kind in dtypes(tmp_path / "half.onnx").items() if name.startswith("up_weight")}


def test_an_output_beyond_fp16_is_refused(tmp_path: Path) -> None:
    from pixrt_export.precision import to_fp16

    path = write(
        tmp_path / "it.onnx",
        [node("Mul", ["x", "factor"], "y")],
        [value("x", "batch", 4)],
        [value("y", "batch", 4)],
        {"factor": np.float32([1e6])},
    )
    with pytest.raises(CheckpointError, match="beyond the range of FP16"):
        to_fp16(path, tmp_path / "half.onnx", [{"x": np.ones((1, 4), np.float32)}])


def test_the_timestep_stays_fp32_up_to_the_first_layer(tmp_path: Path) -> None:
    from pixrt_export.precision import to_fp16

    weight = np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32)
    path = write(
        tmp_path / "it.onnx",
        [
            node("Mul", ["timestep", "frequency"], "angle"),
            node("Sin", ["angle"], "wave"),
            node("MatMul", ["wave", "w"], "y"),
        ],
        [value("timestep", "batch", 1)],
        [value("y", "batch", 4)],
        {"frequency": np.float32([1.0]), "w": weight},
    )
    timesteps = np.float32([[998.75], [999.0]])
    expected = run(path, timestep=timesteps)
    kept = to_fp16(path, tmp_path / "half.onnx", [{"timestep": timesteps}])
    assert set(kept) == {"angle_node", "wave_node"}
    found = run(tmp_path / "half.onnx", timestep=timesteps)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(expected[0] - expected[1]).max() > 0.1  # in FP16 the two timesteps would be one


def test_masks_do_not_become_infinite(tmp_path: Path) -> None:
    from pixrt_export.precision import to_fp16

    mask = np.float32([[0, np.finfo(np.float32).min], [0, 0]])
    constant = onnx.helper.make_node("Constant", [], ["mask"], name="mask", value=onnx.numpy_helper.from_array(mask))
    path = write(
        tmp_path / "it.onnx",
        [constant, node("Add", ["x", "mask"], "scores"), node("Softmax", ["scores"], "y", axis=-1)],
        [value("x", 2, 2)],
        [value("y", 2, 2)],
        {},
    )
    x = np.float32([[3, 2], [1, -1]])
    expected = run(path, x=x)
    to_fp16(path, tmp_path / "half.onnx", [{"x": x}])
    np.testing.assert_allclose(run(tmp_path / "half.onnx", x=x.astype(np.float16)), expected, atol=1e-3)


def test_large_weights_are_stored_in_half_and_computed_in_fp32(tmp_path: Path) -> None:
    from pixrt_export.weights import to_fp16_weights

    generator = np.random.default_rng(0)
    table, weight = (generator.standard_normal((300, 300)).astype(np.float32) for _ in range(2))
    path = write(
        tmp_path / "it.onnx",
        [
            node("Gather", ["table", "ids"], "row"),
            node("MatMul", ["row", "weight"], "middle"),
            node("MatMul", ["middle", "hot_weight"], "hot"),
            node("Add", ["hot", "bias"], "y"),
        ],
        [value("ids", "batch", kind=I64)],
        [value("y", "batch", 300)],
        {
            "table": table,
            "weight": weight,
            "hot_weight": weight * 1e6,
            "bias": np.ones(300, np.float32),
        },
    )
    ids = np.array([3, 299, 0])
    exact = (table[ids].astype(np.float16).astype(np.float64) @ weight.astype(np.float16).astype(np.float64)) @ (
        weight.astype(np.float64) * 1e6
    ) + 1
    assert to_fp16_weights(path, tmp_path / "half.onnx") == ("hot_weight",)
    found = run(tmp_path / "half.onnx", ids=ids)
    assert found.dtype == np.float32
    # Weights rounded as stored, sums in FP32: what is left is FP32's own rounding.
    np.testing.assert_allclose(found, exact, atol=1e-5 * np.abs(exact).max())
    kinds = dtypes(tmp_path / "half.onnx")
    assert kinds == {"table": F16, "weight": F16, "hot_weight": F32, "bias": F32}
    assert (tmp_path / "half.onnx").stat().st_size < 0.7 * path.stat().st_size


def test_stored_halves_are_not_turned_back_when_opened(tmp_path: Path) -> None:
    """ONNX Runtime folds constants when it opens a graph: the optimised one must still hold the casts."""
    import onnxruntime

    from pixrt_export.weights import to_fp16_weights

    weight = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    path = write(
        tmp_path / "it.onnx",
        [node("MatMul", ["x", "weight"], "y")],
        [value("x", "batch", 300)],
        [value("y", "batch", 300)],
        {"weight": weight},
    )
    to_fp16_weights(path, tmp_path / "half.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "half.onnx"), options)
    assert dtypes(tmp_path / "optimised.onnx")["weight"] == F16
