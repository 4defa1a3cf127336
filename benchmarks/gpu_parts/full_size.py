"""The full-size network on `ort-cuda`: parity with PyTorch in FP32, ms a call, and its share of the GPU's own GEMM."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gpu_parts.session import Session

ROWS, SIDE, GEMM = 3, 64, 8192  # three branches of a picture of 512 pixels
RUNS, WARM_UP = 10, 3
MOST_RMS = 2e-2  # FP16 of a network of random weights was 2.3e-3 from FP32
Array = np.ndarray[Any, Any]


def run(session: Session) -> None:
    """What PyTorch's FP16 takes for the same graph stands beside it: its own kernels, attention node by node."""
    session.needs_gpu()
    session.needs("torch", "onnx", "onnxruntime")
    bundle_path = session.full_bundle()
    import torch

    from gpu_parts.torch_graph import TorchGraph, load_weights
    from pixrt.backends.registry import open_backend
    from pixrt.bundles.manifest import Component
    from pixrt.bundles.store import open_bundle

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    peak = _peak(torch)
    session.tell(gpu=torch.cuda.get_device_name(), gemm_tflop_per_s=peak / 1e12)
    bundle = open_bundle(bundle_path)
    component = bundle.manifest.component(Component.UNET)
    feeds = _feeds(component)
    path = bundle.file(Component.UNET)

    def by_torch(widen: bool) -> tuple[Array, float, int]:
        """The output, the seconds, and the multiply-accumulates; what it had on the device is given back."""
        given = {name: torch.from_numpy(values).cuda() for name, values in feeds.items()}
        if widen:
            given = {name: value.float() if value.dtype is torch.float16 else value for name, value in given.items()}
        weights = load_weights(path, "cuda", torch.float32 if widen else None)
        graph = TorchGraph(path, {name: each.shape for name, each in feeds.items()}, weights, "cuda", widen=widen)
        made = graph(given)[component.outputs[0].name].cpu().numpy()
        return made, 0.0 if widen else statistics.median(_seconds(torch, lambda: graph(given))), graph.macs

    expected, _, macs = by_torch(True)
    torch.cuda.empty_cache()
    session.tell(gmac_per_row=macs / ROWS / 1e9)
    found, took, _ = by_torch(False)
    torch.cuda.empty_cache()
    _tell(session, "torch, node by node", found, expected, took, 2 * macs / peak)

    backend = open_backend("ort-cuda", bundle).backend
    try:
        engine = backend.open(bundle, Component.UNET)
        tensors = {key: engine.allocate(values.shape, values.dtype) for key, values in feeds.items()}
        for key, values in feeds.items():
            tensors[key][...] = values
        output = component.outputs[0]
        tensors[output.name] = engine.allocate(expected.shape, output.dtype)
        call = engine.bind(tensors)
        times = []
        for _ in range(WARM_UP + RUNS):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        took = statistics.median(times[WARM_UP:])
        _tell(session, "ort-cuda", tensors[output.name], expected, took, 2 * macs / peak)
        engine.close()
    finally:
        backend.close()
    error = session.found["ort-cuda"]["relative_rms"]
    assert error < MOST_RMS, f"ort-cuda is {error:.2e} from FP32"


def _peak(torch: Any) -> float:
    """FLOP/s of a square product in FP16."""
    square = torch.randn(GEMM, GEMM, device="cuda", dtype=torch.float16)
    return float(2 * GEMM**3 / min(_seconds(torch, lambda: square @ square)))


def _feeds(component: Any) -> dict[str, Array]:
    """Noise for every input, in the middle of an edit."""
    rng = np.random.default_rng(0)
    sizes = {"batch": ROWS, "height": SIDE, "width": SIDE, "tokens": 77}
    feeds = {}
    for tensor in component.inputs:
        shape = [size if isinstance(size, int) else sizes[size] for size in tensor.shape]
        values = np.full(shape, 500) if tensor.name == "timestep" else rng.standard_normal(shape)
        feeds[tensor.name] = values.astype(tensor.dtype)
    return feeds


def _seconds(torch: Any, work: Callable[[], object]) -> list[float]:
    """Of the device, after a warm-up."""
    times = []
    for _ in range(WARM_UP + RUNS):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) / 1000)
    return times[WARM_UP:]


def _tell(session: Session, who: str, found: Array, expected: Array, took: float, at_peak: float) -> None:
    difference = found.astype(np.float64) - expected
    error = float(np.sqrt((difference**2).mean() / (expected.astype(np.float64) ** 2).mean()))
    session.tell(**{who: {"relative_rms": error, "ms": 1000 * took, "share_of_peak": at_peak / took}})
