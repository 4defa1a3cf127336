"""What runs on a CUDA device, and what its runs share: scratch memory, copies of arrays, contexts, captured graphs.

Everything here runs in the device's thread. Must not import TensorRT.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pixrt.backends.protocol import Array
from pixrt.cuda import CudaError, Device, Graph, Memory
from pixrt.errors import BackendError

if TYPE_CHECKING:
    from pixrt.backends.tensorrt import TensorRtBackend
    from pixrt.backends.tensorrt_engine import LoadedPlan

HELD_KEPT = 256
Shapes = Mapping[str, Sequence[int]]


class Scratch:
    """One block for the intermediate values of all engines, which never run at the same time; it grows when needed.

    `generation` tells that addresses set and graphs captured before are void.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: Memory | None = None
        self.generation = 0

    def require(self, bytes_: int) -> None:
        """Have at least so many bytes."""
        if self._memory is None or self._memory.bytes < bytes_:
            self.generation += 1
            self._memory = None  # the old block is free before the new one is asked for
            self._device.collect()
            self._memory = self._device.allocate(bytes_)

    def renew(self) -> None:
        """Have every graph captured anew: something that they hold, such as weights, has changed."""
        self.generation += 1

    @property
    def memory(self) -> Memory:
        """The block."""
        assert self._memory is not None
        return self._memory

    def clear(self) -> None:
        """Free it."""
        self._memory = None


class HeldArrays:
    """Device copies of arrays that do not change, by identity; the arrays last asked for, `HELD_KEPT` of them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._copies: OrderedDict[tuple[int, str], tuple[Array, Array, Memory]] = OrderedDict()

    def get(self, values: Array, dtype: Any) -> Memory:
        """The copy of an array, converted to `dtype`; uploaded at the first request."""
        key = (id(values), np.dtype(dtype).str)
        if key not in self._copies:
            converted = np.ascontiguousarray(values, dtype)
            memory = self._device.allocate(converted.nbytes)
            self._device.upload(memory, converted)
            # The array is kept: its identity must not go to another. So is what is read when the stream has come there.
            self._copies[key] = values, converted, memory
            while len(self._copies) > HELD_KEPT:
                self._copies.popitem(last=False)
        self._copies.move_to_end(key)
        return self._copies[key][2]

    def clear(self) -> None:
        """Free the copies."""
        self._copies.clear()


class Execution:
    """One execution context, for one set of shapes."""

    def __init__(self, backend: "TensorRtBackend", plan: "LoadedPlan", shapes: Shapes) -> None:
        self._backend = backend
        self._plan = plan  # it must outlive its contexts
        self._context = plan.context()
        self._generation = -1
        for tensor in plan.spec.inputs:
            if not self._context.set_input_shape(tensor.name, tuple(shapes[tensor.name])):
                raise self._failed(f"does not take {tensor.name} of {list(shapes[tensor.name])}")
        for tensor in plan.spec.outputs:
            made = tuple(self._context.get_tensor_shape(tensor.name))
            if made != tuple(shapes[tensor.name]):
                raise self._failed(f"makes {tensor.name} of {list(made)}, where {list(shapes[tensor.name])} is bound")
        self.blocks: tuple[Memory, ...] = ()
        self.scratch_bytes = plan.scratch_bytes(self._context)
        backend.scratch.require(self.scratch_bytes)

    def __del__(self) -> None:
        if hasattr(self, "_context"):
            self._backend.device.drop(_Dropped(self._context, self._plan))

    def set_addresses(self, memory: Mapping[str, Memory]) -> None:
        """Where every input and output is; once."""
        for name, block in memory.items():
            if not self._context.set_tensor_address(name, block.address):
                raise self._failed(f"does not take an address for {name}")
        self.blocks = tuple(memory.values())

    @property
    def is_current(self) -> bool:
        """Whether the scratch memory is still where it was when the context was told."""
        return self._generation == self._backend.scratch.generation

    def enqueue(self) -> None:
        """Enqueue one run."""
        if not self.is_current:
            scratch = self._backend.scratch
            scratch.require(self.scratch_bytes)  # it is gone where growing it failed
            self._context.set_device_memory(scratch.memory.address, scratch.memory.bytes)
            self._generation = scratch.generation
        if not self._context.execute_async_v3(self._backend.device.stream):
            raise self._failed("failed")

    def can_be_captured(self) -> bool:
        """Whether the library lets a stream capture see all of a run; TensorRT does unless it streams weights."""
        if self._plan.streams_weights:
            return False
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(self._backend.device.stream))

    def _failed(self, what: str) -> BackendError:
        return BackendError(
            f"{self._plan.spec.file} {what}: {self._backend.log.last}",
            remedy="Build it again, or choose --backend ort-cpu",
        )


class _Dropped:
    """What is left of an execution: the library may still be running it, and frees its memory in the calling thread."""

    def __init__(self, *held: object) -> None:
        self._held = held

    def free(self) -> None:
        self._held = ()


class Repeated:
    """Work on the stream: run as it is the first time, then captured, and from then on launched as one graph.

    The first run is the warm-up: libraries allocate and load kernels then, which a capture does not allow. When the
    scratch memory has moved, all of that is done again. What the library does not let capture is run as it is, and so
    is what could not be captured, with a warning.
    """

    def __init__(self, backend: "TensorRtBackend", execution: Execution) -> None:
        self._backend = backend
        self.execution = execution
        self._graph: Graph | None = None
        self._may_capture = backend.graphs

    def __call__(self, work: Callable[[], None]) -> None:
        """Enqueue `work`, the same at every call. It is not kept: it refers to what holds this."""
        if not self.execution.is_current:
            self._graph = None
            work()
            return
        if self._graph is None:
            if not self._may_capture or not self.execution.can_be_captured():
                work()
                return
            try:
                self._graph = self._backend.device.capture(work)
            except (BackendError, CudaError) as error:
                self._may_capture = False
                warnings.warn(f"no CUDA graph can be captured, steps are slower without: {error}", stacklevel=1)
                work()
                return
        self._graph.launch()
