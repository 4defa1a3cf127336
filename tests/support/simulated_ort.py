"""ONNX Runtime's CUDA provider as far as pixrt uses it, over the real ONNX Runtime on the CPU and the simulated driver.

A run computes on the addresses that were bound, as late as the simulated driver does everything, outputs poisoned
first. What the real provider does by its source is done here: without `user_compute_stream` it works on a stream of its
own, without `disable_synchronize_execution_providers` it waits after a run, graphs are captured by id at an id's first
run (which runs the network once more), and a replay reads no binding, launches what was captured and waits for it.
"""

import ctypes
import threading
import weakref
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cuda.bindings import driver as bindings

from pixrt.backends.ort import probe
from simulated_cuda import load_driver

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
POISON = 0xFF
ARENA = 1 << 16  # bytes that the arena grows by for a set of shapes
_UNCAPTURED = -1


class SimulatedOrt:
    """Stands in place of onnxruntime's sessions; `sessions` are the settings of all that were opened.

    `captures` False: the provider refuses graphs, as where a part of a network is on the CPU.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *, captures: bool = True) -> None:
        self.sessions: list[dict[str, str]] = []
        self.captures = captures
        self.real = onnxruntime.InferenceSession
        patch.setattr(probe, "provider_problem", lambda provider, settings: None if provider in (CUDA, CPU) else "none")
        patch.setattr(onnxruntime, "InferenceSession", self._open)

    def _open(self, model: Any, options: Any, *, providers: list[Any], enable_fallback: int = 1) -> Any:
        if isinstance(providers[0], str) or providers[0][0] == CPU:
            return self.real(model, options, providers=[CPU])
        settings = dict(providers[0][1])
        self.sessions.append(settings)
        graphs = settings.get("enable_cuda_graph") == "True"
        if graphs and not self.captures:
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        return Session(self.real(model, options, providers=[CPU]), settings, graphs)


class Binding:
    """Where everything is: type of memory, dtype, shape, address."""

    def __init__(self, session: "Session") -> None:
        self._session = weakref.ref(session)
        self.tensors: dict[str, tuple[int, Any, tuple[int, ...]]] = {}
        self.inputs: list[str] = []

    def bind_input(self, name: str, device: str, ordinal: int, dtype: Any, shape: Any, address: int) -> None:
        self.inputs.append(name)
        self.bind_output(name, device, ordinal, dtype, shape, address)

    def bind_output(self, name: str, device: str, ordinal: int, dtype: Any, shape: Any, address: int) -> None:
        if device != "cuda" or ordinal != 0 or not load_driver().is_device(address):
            load_driver().raised.append(RuntimeError(f"{name} is bound to no memory of the device"))
        self.tensors[name] = (address, np.dtype(dtype), tuple(shape))

    def __del__(self) -> None:
        if self._session() is None:
            load_driver().raised.append(RuntimeError("a session was closed before what is bound to it"))


class Session:
    """A session on the CPU that takes and makes its values on the device."""

    def __init__(self, real: Any, settings: dict[str, str], graphs: bool) -> None:
        self._real = real
        self._graphs = graphs
        self._thread = threading.get_ident()
        self._captured: dict[int, Any] = {}
        self._shapes: set[Any] = set()
        self._own_stream = None if "user_compute_stream" in settings else _checked(bindings.cuStreamCreate(1))
        self._stream = int(settings.get("user_compute_stream", self._own_stream or 0))
        self._blocks = [_allocate(ARENA)]  # its weights

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def io_binding(self) -> Binding:
        return Binding(self)

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        self._check_thread()
        waits = _entry(options, "disable_synchronize_execution_providers") != "1"
        graph = int(_entry(options, "gpu_graph_id") or 0) if self._graphs else _UNCAPTURED
        if options.terminate:
            raise RuntimeError("Exiting due to terminate flag being set to true.")
        if graph in self._captured:
            self._replay(graph)
            return
        self._enqueue(binding)
        if graph != _UNCAPTURED:
            _checked(bindings.cuStreamSynchronize(self._stream))
            mode = bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
            _checked(bindings.cuStreamBeginCapture(self._stream, mode))
            self._enqueue(binding)
            recorded = _checked(bindings.cuStreamEndCapture(self._stream))
            self._captured[graph] = _checked(bindings.cuGraphInstantiate(recorded, 0))
            _checked(bindings.cuGraphDestroy(recorded))
            self._replay(graph)
        elif waits:
            _checked(bindings.cuStreamSynchronize(self._stream))

    def __del__(self) -> None:
        self._check_thread()
        for graph in self._captured.values():
            bindings.cuGraphExecDestroy(graph)
        for block in self._blocks:
            bindings.cuMemFree(block)
        if self._own_stream is not None:
            bindings.cuStreamDestroy(self._own_stream)

    def _replay(self, graph: int) -> None:
        _checked(bindings.cuGraphLaunch(self._captured[graph], self._stream))
        _checked(bindings.cuStreamSynchronize(self._stream))

    def _enqueue(self, binding: Binding) -> None:
        tensors, inputs = dict(binding.tensors), tuple(binding.inputs)
        shapes = tuple(shape for _, _, shape in tensors.values())
        if shapes not in self._shapes:
            self._check_shapes(tensors, inputs)
            self._shapes.add(shapes)
            self._blocks.append(_allocate(ARENA))
        real = self._real
        if load_driver().enqueue(self._stream, lambda: _compute(real, tensors, inputs)) != 0:
            raise RuntimeError("CUDA failure: nothing can be enqueued")

    def _check_shapes(self, tensors: Any, inputs: tuple[str, ...]) -> None:
        """As the real one, which finds an output bound with another shape than it gets while it runs."""
        outputs = [name for name in tensors if name not in inputs]
        made = self._real.run(outputs, {name: np.zeros(tensors[name][2], tensors[name][1]) for name in inputs})
        for name, values in zip(outputs, made, strict=True):
            if values.shape != tensors[name][2]:
                raise RuntimeError(f"Shape mismatch attempting to re-use buffer of {name}")

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            load_driver().raised.append(RuntimeError("a session is used in another thread than the device's"))


def _compute(real: Any, tensors: Any, inputs: tuple[str, ...]) -> None:
    for address, dtype, shape in tensors.values():
        last = address + int(np.prod(shape)) * dtype.itemsize - 1
        if not (load_driver().is_device(address) and load_driver().is_device(last)):
            raise RuntimeError("a network ran on device memory that had been freed, or is smaller")
    views = {name: _view(*tensor) for name, tensor in tensors.items()}
    feeds = {name: views[name].copy() for name in inputs}
    outputs = [name for name in views if name not in inputs]
    for name in outputs:
        ctypes.memset(tensors[name][0], POISON, views[name].nbytes)
    for name, values in zip(outputs, real.run(outputs, feeds), strict=True):
        views[name][...] = values


def _view(address: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype).reshape(shape)


def _allocate(bytes_: int) -> Any:
    error, block = bindings.cuMemAlloc(bytes_)
    if error != bindings.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"Failed to allocate memory for requested buffer of size {bytes_}")
    return block


def _checked(answer: Any) -> Any:
    code, *values = answer
    if code != bindings.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA failure {code}")
    return values[0] if values else None


def _entry(options: Any, name: str) -> str:
    try:
        return str(options.get_run_config_entry(name))
    except Exception:  # it was not set
        return ""
