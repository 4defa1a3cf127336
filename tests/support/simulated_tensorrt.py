"""TensorRT's runtime classes as far as pixrt calls them, over ONNX Runtime and the simulated driver.

A plan here is JSON that names an ONNX file. A context runs that file on the addresses it was given, as late as the
simulated driver runs everything, with its outputs and its scratch memory poisoned first: a forgotten copy, a stale
address or a missing synchronisation gives a wrong picture. Signatures are those of the real libraries, which a test
holds them against. `import` it as the module that `TensorRtBackend` takes.
"""

import ctypes
import enum
import json
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import onnx
import onnxruntime
from cuda.bindings import driver as bindings

from pixrt.bundles.decoding import decode
from pixrt.bundles.engine_spec import ShapeProfile
from simulated_cuda import load_driver

__version__ = "10.13.0"
POISON = 0xFF
# What has been destroyed, in this order, of "context", "cache", "engine" and "runtime".
destroyed: list[str] = []
# Which network's profile was selected by a context, in this order.
selected: list[tuple[str, int]] = []
_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


def nptype(trt_type: Any) -> Any:
    return trt_type


class SeekPosition(enum.IntEnum):
    SET, CUR, END = range(3)


class IStreamReaderV2:
    def __init__(self) -> None:
        self.is_made = True

    def read(self, num_bytes: int, stream: int) -> bytes:
        raise NotImplementedError

    def seek(self, offset: int, where: Any) -> bool:
        raise NotImplementedError


_Reader = IStreamReaderV2  # also where a test takes the name away


def _read_all(reader: IStreamReaderV2) -> bytes:
    """As the library does: the end first, then from the beginning, less at a time than the reader would give."""
    assert reader.is_made
    parts: list[bytes] = []
    assert reader.seek(0, SeekPosition.END)
    assert reader.seek(0, SeekPosition.SET)
    while not parts or parts[-1]:
        parts.append(reader.read(100, 0))
    return b"".join(parts)


class Weights:
    def __init__(self, a: np.ndarray[Any, Any]) -> None:
        assert a.flags.c_contiguous
        self.values = a


class Runtime:
    engine: "type[ICudaEngine]"

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False
        self.engines: WeakSet[ICudaEngine] = WeakSet()

    def deserialize_cuda_engine(self, serialized_engine: Any) -> "ICudaEngine | None":
        if isinstance(serialized_engine, _Reader):
            serialized_engine = _read_all(serialized_engine)
        try:
            made = self.engine(json.loads(serialized_engine), self.logger)
        except ValueError:
            self.logger.log(ILogger.ERROR, "the plan cannot be deserialized")
            return None
        self.engines.add(made)
        return made

    def __del__(self) -> None:
        destroy("runtime", self.engines)


class ICudaEngine:
    context: "type[IExecutionContext]"

    def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
        self.logger = logger
        self._thread = threading.get_ident()
        self.path = Path(plan["onnx"])
        self.profiles: list[ShapeProfile] = [decode(ShapeProfile, each, "a plan", "") for each in plan["profiles"]]
        self.refittable = bool(plan["refittable"])
        self.streams = bool(plan["weight_streaming"])
        self.contexts: WeakSet[IExecutionContext] = WeakSet()
        self.budget = self.streamable_weights_size
        self.open({} if not plan["stripped"] else None)
        table = [(v, TensorIOMode.INPUT) for v in self._table.get_inputs()]
        table += [(v, TensorIOMode.OUTPUT) for v in self._table.get_outputs()]
        self.tensors = {value.name: (value, mode) for value, mode in table}

    def __del__(self) -> None:
        destroy("engine", self.contexts, self._thread)

    def open(self, weights: dict[str, np.ndarray[Any, Any]] | None) -> None:
        """Weights in place of the ONNX file's; None is an engine without any, which cannot run."""
        self.weights = weights
        self._table = _session(self.path, weights or {})
        self.session = None if weights is None else self._table
        # The real library copies weights on a stream of its own, which nobody but `cuCtxSynchronize` waits for.
        self.arrived = threading.Event()
        error, stream = bindings.cuStreamCreate(1)
        if error != bindings.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"a stream of the library's cannot be made: {error}")
        load_driver().enqueue(int(stream), self.arrived.set)
        bindings.cuStreamDestroy(stream)

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    @property
    def device_memory_size_v2(self) -> int:
        return max(_scratch_bytes({name: sizes.max for name, sizes in each.inputs.items()}) for each in self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return np.dtype(_DTYPES[self.tensors[name][0].type])

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> "IExecutionContext":
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return self.context(self)

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    @property
    def streamable_weights_size(self) -> int:
        return self.path.stat().st_size

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self.budget

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, value: int) -> None:
        if self.streams and not self.contexts:  # a refusal is not told
            self.budget = value


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        # What the engine is, without being its handle: the library's own reference keeps no engine alive.
        self.engine = object.__new__(_unowned(type(engine)))
        self.engine.__dict__ = engine.__dict__
        engine.contexts.add(self)
        self._thread = threading.get_ident()
        # Of several profiles none is selected: that another context has not taken the first one is nothing to rely on.
        self._profile = 0 if len(engine.profiles) == 1 else None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < len(self.engine.profiles):
            return self._complain(f"there is no profile {profile_index}")
        self._profile, self._shapes = profile_index, {}
        selected.append((self.engine.path.stem, profile_index))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._profile is None or not self.engine.profiles[self._profile].inputs[name].holds(shape):
            return self._complain(f"{name} of {shape} is not in profile {self._profile}")
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        outputs = [n for n, (_, mode) in self.engine.tensors.items() if mode is TensorIOMode.OUTPUT]
        made = self.engine._table.run(outputs, self._zeros())
        return dict(zip(outputs, (array.shape for array in made), strict=True))[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if not load_driver().is_device(memory):
            self._complain(f"{name} is not at a device address")
            return False
        self._addresses[name] = memory
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return _scratch_bytes(self._shapes)

    def set_device_memory(self, memory: int, size: int) -> None:
        self._scratch = (memory, size)

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.engine.session is None:
            return self._complain("the engine has no weights")
        if self._shapes.keys() | {n for n, (_, m) in self.engine.tensors.items() if m is TensorIOMode.OUTPUT} != (
            self._addresses.keys()
        ):
            return self._complain("addresses or shapes are not set")
        address, size = self._scratch
        if size < self.update_device_memory_size_for_shapes() or not load_driver().is_device(address):
            return self._complain(f"the scratch memory of {size} bytes is too small, or not the device's")
        # What is set now is what runs later: another address set afterwards does not reach this run, and a graph keeps
        # the weights that it was captured with.
        tensors = {
            name: (address, self.engine.get_tensor_dtype(name), self.get_tensor_shape(name))
            for name, address in self._addresses.items()
        }
        session, arrived = self.engine.session, self.engine.arrived
        inputs, scratch = tuple(self._shapes), self._scratch
        return load_driver().enqueue(stream_handle, lambda: _run(session, arrived, tensors, inputs, scratch)) == 0

    def __del__(self) -> None:
        destroy("context", (), self._thread)

    def _zeros(self) -> dict[str, np.ndarray[Any, Any]]:
        return {name: np.zeros(shape, self.engine.get_tensor_dtype(name)) for name, shape in self._shapes.items()}

    def _complain(self, message: str) -> bool:
        self.engine.logger.log(ILogger.ERROR, message)
        return False


class Refitter:
    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
        self.engine = engine
        self.logger = logger
        self.given: dict[str, Weights] = {}

    def set_named_weights(self, name: str, weights: Weights) -> bool:
        if not self.engine.refittable:
            self.logger.log(ILogger.ERROR, "the engine is not refittable")
            return False
        if name not in _initializers(self.engine.path):
            self.logger.log(ILogger.ERROR, f"there is no weight {name}")
            return False
        self.given[name] = weights
        return True

    def get_missing_weights(self) -> list[str]:
        """As of an engine whose kernels hold two weights each: the neighbour of what was given is wanted too."""
        names = list(_initializers(self.engine.path))
        wanted = {names[names.index(name) ^ 1] for name in self.given if names.index(name) ^ 1 < len(names)}
        return sorted(wanted - self.given.keys())

    def refit_cuda_engine(self) -> bool:
        """Only what was given changes: weights of an earlier refit stay, as in the real library."""
        if self.get_missing_weights():
            return False
        if self.engine.contexts and load_driver().counters().queued_operations:
            self.logger.log(ILogger.ERROR, "the engine is refitted while it runs")
            return False
        changed = {name: weights.values.copy() for name, weights in self.given.items()}
        self.engine.open((self.engine.weights or {}) | changed)
        return True


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        self.refitter = refitter

    def refit_from_file(self, model: str) -> bool:
        engine = self.refitter.engine
        if engine.weights is None:
            engine.open({})
        for name, tensor in _initializers(Path(model)).items():
            values = onnx.numpy_helper.to_array(tensor, str(Path(model).parent))
            self.refitter.given[name] = Weights(np.ascontiguousarray(values))
        return True


Runtime.engine = ICudaEngine
ICudaEngine.context = IExecutionContext


def destroy(kind: str, users: Iterable[Any], thread: int | None = None) -> None:
    """Note that something was destroyed: after all that uses it, and in the thread that made it."""
    destroyed.append(kind)
    if list(users):
        load_driver().raised.append(RuntimeError(f"{kind} was destroyed while something still uses it"))
    if thread is not None and threading.get_ident() != thread:
        load_driver().raised.append(RuntimeError(f"{kind} was destroyed in another thread than the device's"))


@cache
def _unowned(engine: type[ICudaEngine]) -> type[ICudaEngine]:
    return type(engine.__name__, (engine,), {"__del__": lambda self: None})


def _run(
    session: Any,
    arrived: threading.Event,
    tensors: dict[str, tuple[int, Any, Any]],
    inputs: tuple[str, ...],
    scratch: tuple[int, int],
) -> None:
    if not arrived.is_set():
        raise RuntimeError("an engine ran before its weights were on the device")
    driver = load_driver()
    for address in (*(address for address, _, _ in tensors.values()), scratch[0]):
        if not driver.is_device(address):
            raise RuntimeError("an engine ran on device memory that had been freed")
    ctypes.memset(scratch[0], POISON, scratch[1])
    views = {name: _view(*tensor) for name, tensor in tensors.items()}
    feeds = {name: views[name].copy() for name in inputs}
    outputs = [name for name in views if name not in inputs]
    for name in outputs:
        ctypes.memset(tensors[name][0], POISON, views[name].nbytes)
    for name, values in zip(outputs, session.run(outputs, feeds), strict=True):
        views[name][...] = values


def _view(address: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype).reshape(shape)


def _scratch_bytes(shapes: Any) -> int:
    """A size that grows with the shapes, as the real one does."""
    return 4096 + 16 * sum(int(np.prod(shape)) for shape in shapes.values())


def _initializers(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in onnx.load(str(path), load_external_data=False).graph.initializer}


def _session(path: Path, weights: dict[str, np.ndarray[Any, Any]]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not weights:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
