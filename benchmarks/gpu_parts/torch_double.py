"""TensorRT's runtime classes as far as pixrt calls them, by PyTorch on the stream that pixrt gives.

A plan is JSON that names an ONNX file, as in `tests/support/simulated_tensorrt.py`. On a GPU a run is enqueued on the
caller's stream, on the addresses that were set, so copies, order, scratch memory and captured graphs are the real ones;
over the simulated driver PyTorch's CPU runs, as late as all that this driver does. Outputs are poisoned first.
`use_device` says which of the two it is. Put it in TensorRT's place in `sys.modules`.
"""

import ctypes
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from gpu_parts.torch_graph import TorchGraph, load_weights

__version__ = "10.13.0"
_SCRATCH_BYTES = 4096
_simulated: Any = None


def use_device(simulated: Any) -> None:
    """The simulated driver to enqueue on; None is the real one."""
    global _simulated
    _simulated = simulated
    torch.set_num_threads(1)
    # What is compared with the CPU must not be rounded to TF32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


class ExecutionContextAllocationStrategy(enum.Enum):
    """As the library's."""

    USER_MANAGED = 2


class ILogger:
    """As the library's."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


def nptype(trt_type: Any) -> Any:
    return trt_type


class Runtime:
    """As the library's."""

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: Any) -> "Engine":
        return Engine(json.loads(bytes(serialized_engine)), self.logger)


class Engine:
    """A file's weights on the device, and its tensors."""

    def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
        self.logger = logger
        self.path = Path(plan["onnx"])
        self.device = "cpu" if _simulated else "cuda"
        self.weights = load_weights(self.path, self.device)
        graph = onnx.load(str(self.path), load_external_data=False).graph
        self.inputs, self.outputs = [[value.name for value in values] for values in (graph.input, graph.output)]
        self.dtypes = {
            value.name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
            for value in (*graph.input, *graph.output)
        }
        self.device_memory_size_v2 = _SCRATCH_BYTES
        self.num_io_tensors = len(self.dtypes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.dtypes)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.dtypes[name]

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def create_execution_context(self, strategy: Any) -> "Context":
        return Context(self)


class Context:
    """One set of shapes and addresses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._views: dict[str, torch.Tensor] = {}
        self._scratch: torch.Tensor | None = None
        self._graph: TorchGraph | None = None

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name] if name in self._shapes else self._bound.shapes[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._views[name] = _view(memory, self._engine.dtypes[name], self.get_tensor_shape(name))
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return _SCRATCH_BYTES

    def set_device_memory(self, memory: int, size: int) -> None:
        self._scratch = _view(memory, np.dtype(np.uint8), (size,))

    def execute_async_v3(self, stream_handle: int) -> bool:
        graph, views, scratch = self._bound, dict(self._views), self._scratch
        inputs, outputs = self._engine.inputs, self._engine.outputs

        def work() -> None:
            if scratch is not None:
                scratch.fill_(255)
            for name in outputs:
                views[name].fill_(float("nan") if views[name].is_floating_point() else -1)
            made = graph({name: views[name] for name in inputs})
            for name in outputs:
                views[name].copy_(made[name])

        if _simulated:
            return bool(_simulated.enqueue(stream_handle, work) == 0)
        with torch.cuda.stream(torch.cuda.ExternalStream(stream_handle)):
            work()
        return True

    @property
    def _bound(self) -> TorchGraph:
        if self._graph is None:
            engine = self._engine
            self._graph = TorchGraph(engine.path, self._shapes, engine.weights, engine.device)
        return self._graph


class _Block:
    """Device memory at an address, as PyTorch reads it."""

    def __init__(self, address: int, dtype: Any, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": dtype.str, "data": (address, False), "version": 2, "strides": None,
        }  # fmt: skip


def _view(address: int, dtype: Any, shape: tuple[int, ...]) -> torch.Tensor:
    if _simulated:
        size = int(np.prod(shape)) * dtype.itemsize
        return torch.from_numpy(np.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype).reshape(shape))
    return torch.as_tensor(_Block(address, dtype, shape), device="cuda")
