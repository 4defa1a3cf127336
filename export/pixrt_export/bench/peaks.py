"""What this machine reaches: a matrix product in FP32, and a copy in memory. The best of a few runs of each."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

SIDE = 2048  # of the square matrices
COPIED_BYTES = 256 << 20
RUNS = 5


@dataclass(frozen=True, slots=True)
class Peaks:
    """`gemm` says what multiplied. A copy reads and writes every byte, on one thread."""

    gemm: str
    gemm_flop_per_s: float
    copy_bytes_per_s: float


def measure_peaks(threads: int | None = None) -> Peaks:
    """Multiply by ONNX Runtime, on so many threads, where it and onnx can be imported, else by NumPy; and copy."""
    left, right = (np.random.default_rng(seed).standard_normal((SIDE, SIDE), np.float32) for seed in (0, 1))
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        gemm, product = "NumPy", lambda: np.matmul(left, right)
    else:
        gemm, product = "ONNX Runtime", _by_onnxruntime(left, right, threads)
    source, target = np.ones(COPIED_BYTES, np.uint8), np.zeros(COPIED_BYTES, np.uint8)
    return Peaks(
        f"{gemm}, FP32, {SIDE} x {SIDE}",
        2 * SIDE**3 / _best_s(product),
        2 * COPIED_BYTES / _best_s(lambda: np.copyto(target, source)),
    )


def _by_onnxruntime(
    left: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
    right: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
    threads: int | None,
) -> Callable[[], object]:
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


def _best_s(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
