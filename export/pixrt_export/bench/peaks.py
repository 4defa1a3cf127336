"""What this machine reaches: a matrix product in each number format, and a copy in memory. The best of a few runs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 2048  # of the square matrices
COPIED_BYTES = 256 << 20
RUNS = 5
_Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Peaks:
    """`gemm` says what multiplied in FP32. A copy reads and writes every byte, on one thread.

    `formats` is FLOP/s of a product by format: FP32, and BF16 and INT8 where OpenVINO is there and computes in it.
    """

    gemm: str
    gemm_flop_per_s: float
    copy_bytes_per_s: float
    formats: Mapping[str, float]


def measure_peaks(threads: int | None = None) -> Peaks:
    """Multiply by ONNX Runtime, on so many threads, where it and onnx can be imported, else by NumPy; and copy."""
    left, right = (np.random.default_rng(seed).standard_normal((SIDE, SIDE), np.float32) for seed in (0, 1))
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        gemm, product = "NumPy", lambda: np.matmul(left, right)
    else:
        gemm, product = "ONNX Runtime", _by_onnxruntime(left, right, threads)
    source, target = np.ones(COPIED_BYTES, np.uint8), np.zeros(COPIED_BYTES, np.uint8)
    products = {"FP32": product, **_by_openvino(left, right, threads)}
    formats = {name: 2 * SIDE**3 / _best_s(each) for name, each in products.items()}
    return Peaks(
        f"{gemm}, FP32, {SIDE} x {SIDE}",
        formats["FP32"],
        2 * COPIED_BYTES / _best_s(lambda: np.copyto(target, source)),
        formats,
    )


def _by_onnxruntime(left: _Floats, right: _Floats, threads: int | None) -> Callable[[], object]:
    """A session of one MatMul; the right side is a weight, as in a network."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, left.shape) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        tensors[:1],
        tensors[1:],
        [numpy_helper.from_array(right, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": left})


def _by_openvino(left: _Floats, right: _Floats, threads: int | None) -> dict[str, Callable[[], object]]:
    """The product in BF16 and in INT8, where the processor has them; the numbers go in and come out in FP32."""
    if find_spec("openvino") is None:
        return {}
    import openvino

    core = openvino.Core()
    capable = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings: dict[str, Any] = {"NUM_STREAMS": 1}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    made: dict[str, Callable[[], object]] = {}
    for name, hint in (("BF16", "bf16"), ("INT8", "f32")):
        if name not in capable:
            continue
        model = _product(right, quantised=name == "INT8")
        request = core.compile_model(
            model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint}
        ).create_infer_request()
        request.set_input_tensor(openvino.Tensor(left, shared_memory=True))
        made[name] = request.infer
    return made


def _product(right: _Floats, *, quantised: bool) -> Any:
    """An OpenVINO model of `x @ right`; quantised as a quantiser writes it, 8 bits for the numbers and the weights."""
    import openvino
    from openvino import opset13 as ops

    x = ops.parameter(right.shape, np.float32)
    left, weights = x, ops.constant(right)
    if quantised:
        most = float(np.abs(right).max())
        left = ops.fake_quantize(left, *_range(-6, 6 * 127 / 128), *_range(-6, 6 * 127 / 128), 256)
        weights = ops.fake_quantize(weights, *_range(-most, most), *_range(-most, most), 255)
    return openvino.Model([ops.matmul(left, weights, False, False)], [x])


def _range(low: float, high: float) -> tuple[_Floats, _Floats]:
    return np.array(low, np.float32), np.array(high, np.float32)


def _best_s(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
