"""All CUDA calls of pixrt: a device with its own thread and stream, memory on both sides, captured graphs.

pycuda has the primary context, memory, streams and events; it has no stream capture, so that is cuda-bindings', on the
same stream. A context of pycuda belongs to the thread that made it: a device has one thread, and what touches CUDA goes
through `Device.run`, from any thread. Nothing here knows of engines; must not import anything of pixrt but errors.
"""

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pycuda.driver as driver
from cuda.bindings import driver as bindings
from numpy.typing import NDArray

from pixrt.errors import BackendError, DeviceLost, OutOfMemory

P = ParamSpec("P")
Answer = TypeVar("Answer")
Array = NDArray[Any]
CudaError = driver.Error
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class Device:
    """One GPU: its primary context, one stream, one thread in which all its calls are made.

    Raises BackendError where there is no such GPU.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pixrt-cuda")
        self._inside = threading.local()
        # What has been dropped anywhere, to be freed in the device's thread.
        self._dropped: deque[Any] = deque()
        self._lost: str | None = None
        try:
            self._thread.submit(self._open, ordinal).result()
        except driver.Error as error:
            self._thread.shutdown()
            raise BackendError(f"there is no usable CUDA device {ordinal}: {error}", remedy=_NO_DEVICE) from error

    def _open(self, ordinal: int) -> None:
        self._inside.yes = True
        driver.init()
        device = driver.Device(ordinal)
        self.name: str = device.name()
        self.capability: tuple[int, int] = device.compute_capability()
        version = driver.get_driver_version()
        self.driver_version = f"{version // 1000}.{version % 1000 // 10}"
        self._context = device.retain_primary_context()
        # Where nobody calls `close`, pycuda must not find a living context of another thread at the process' end.
        self._forgotten = weakref.finalize(self, _forget, self._context)
        with self._current():
            # Not ordered with the legacy stream: that one may be used by others, during a capture too.
            self._stream = driver.Stream(_NON_BLOCKING)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Inside it the context is current. It is not between calls: a thread must not end with one."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    @property
    def stream(self) -> int:
        """The stream's handle, for libraries that enqueue work of their own."""
        return int(self._stream.handle)

    def run(self, function: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """Call a function in the device's thread and wait for it. Raises BackendError for what CUDA refuses."""
        if getattr(self._inside, "yes", False):
            return function(*args, **kwargs)
        if self._lost is not None:
            raise DeviceLost(self._lost, remedy=_LOST)
        try:
            return self._thread.submit(self._call, function, args, kwargs).result()
        except driver.MemoryError as error:
            raise OutOfMemory(self._memory_problem(), remedy=_LESS_MEMORY) from error
        except driver.Error as error:
            if self._thread.submit(self._is_lost).result():
                self._lost = f"the GPU {self.name} failed and does not answer any more: {error}"
                raise DeviceLost(self._lost, remedy=_LOST) from error
            raise BackendError(f"CUDA failed on {self.name}: {error}", remedy=_FAILED) from error

    def release(self, function: Callable[[], object]) -> None:
        """Call what only lets go of something: on a lost device too, and nothing that CUDA refuses is raised."""
        if getattr(self._inside, "yes", False):
            function()
            return
        with suppress(driver.Error):
            self._thread.submit(self._call, function, (), {}).result()

    def _call(self, function: Callable[..., Answer], args: Any, kwargs: Any) -> Answer:
        with self._current():
            self.collect()
            return function(*args, **kwargs)

    def collect(self) -> None:
        """Free what has been dropped, once nothing on the stream can use it any more; in the device's thread."""
        if not self._dropped:
            return
        try:
            self._stream.synchronize()
        finally:
            while self._dropped:
                self._dropped.popleft().free()

    def _is_lost(self) -> bool:
        try:
            with self._current():
                self._stream.synchronize()
                driver.mem_get_info()
        except driver.Error:
            return True
        return False

    def _memory_problem(self) -> str:
        free, total = self.memory()
        return f"the GPU {self.name} ran out of memory: {free / 2**20:.0f} of {total / 2**20:.0f} MiB are free"

    def memory(self) -> tuple[int, int]:
        """Free and total memory in bytes."""
        free, total = self.run(driver.mem_get_info)
        return int(free), int(total)

    def drop(self, block: Any) -> None:
        """Have a block freed at the next call; safe in any thread and while Python collects garbage."""
        self._dropped.append(block)

    def close(self) -> None:
        """Free what was dropped and give the context back. Blocks that are still in use are not freed."""
        self.release(self._close)
        self._thread.submit(self._forgotten).result()
        self._thread.shutdown()

    def _close(self) -> None:
        self.collect()
        del self._stream

    # What follows is called in the device's thread.

    def synchronize(self) -> None:
        """Wait until everything on the stream is done."""
        self._stream.synchronize()

    @staticmethod
    def settle() -> None:
        """Wait for the whole device: for what a library has done on streams of its own."""
        driver.Context.synchronize()

    def mark(self) -> Any:
        """An event on the stream, here; for measuring."""
        event = driver.Event()
        event.record(self._stream)
        return event

    @staticmethod
    def milliseconds(first: Any, last: Any) -> float:
        """The device's time between two marks; waits for the later one."""
        last.synchronize()
        return float(first.time_till(last))

    def upload(self, target: "Memory", source: Array, offset: int = 0) -> None:
        """Copy a C-contiguous array to device memory, `offset` bytes from its beginning.

        It must stay as it is until the stream has come that far.
        """
        driver.memcpy_htod_async(target.address + offset, source, self._stream)

    def download(self, target: Array, source: "Memory", offset: int = 0) -> None:
        """Copy from device memory, `offset` bytes from its beginning, to a C-contiguous pinned array; returns early."""
        driver.memcpy_dtoh_async(target, source.address + offset, self._stream)

    def copy(self, target: "Memory", source: "Memory", bytes_: int, target_offset: int = 0, offset: int = 0) -> None:
        """Copy within device memory; returns early."""
        driver.memcpy_dtod_async(target.address + target_offset, source.address + offset, bytes_, self._stream)

    def fill_zero(self, target: "Memory", offset: int = 0, bytes_: int | None = None) -> None:
        """Set device memory to zero, all of it or so many bytes from `offset` on; returns early."""
        driver.memset_d8_async(target.address + offset, 0, target.bytes if bytes_ is None else bytes_, self._stream)

    def fill_word(self, target: "Memory", index: int, value: int) -> None:
        """Set one 32-bit word of device memory. The value travels with the command: nothing has to stay as it is."""
        driver.memset_d32_async(target.address + 4 * index, value, 1, self._stream)

    def strided_upload(self, target: "Memory", source: Array, width: int) -> Callable[[], None]:
        """The upload of the first `width` bytes of every row of a pinned array `[rows, ...]`, to be called often."""
        copy = driver.Memcpy2D()
        copy.set_src_host(source)
        copy.set_dst_device(target.address)
        copy.src_pitch = copy.dst_pitch = source.nbytes // len(source)
        copy.width_in_bytes, copy.height = width, len(source)
        return lambda: copy(self._stream)

    def allocate(self, bytes_: int) -> "Memory":
        """A block of device memory; freed when nothing refers to it any more."""
        try:
            return Memory(self, bytes_)
        except driver.MemoryError:
            if not self._dropped:
                raise
            self.collect()
            return Memory(self, bytes_)

    def pinned(self, shape: Sequence[int], dtype: Any) -> Array:
        """An array of zeros in page-locked memory, freed when nothing refers to it any more."""
        count = math.prod(shape)
        owner = _Pinned(self, max(1, count * np.dtype(dtype).itemsize))
        array: Array = np.frombuffer(np.asarray(owner), dtype, count).reshape(shape)
        array[...] = 0
        return array

    @staticmethod
    def is_pinned(array: Array) -> bool:
        """Whether an array, or what it is a view of, was made by `pinned`."""
        owner: Any = array
        while owner is not None and not isinstance(owner, _Pinned):
            owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
        return owner is not None

    def capture(self, work: Callable[[], None]) -> "Graph":
        """Record what `work` enqueues on the stream, without running it."""
        mode = bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _check(bindings.cuStreamBeginCapture(self.stream, mode))
        try:
            work()
        except BaseException:
            # The capture has to end before the stream can be used again; what was recorded is not wanted.
            _, graph = bindings.cuStreamEndCapture(self.stream)
            if graph:
                bindings.cuGraphDestroy(graph)
            raise
        graph = _check(bindings.cuStreamEndCapture(self.stream))
        return Graph(self, graph)


class Memory:
    """A block of device memory."""

    def __init__(self, device: Device, bytes_: int) -> None:
        self.bytes = bytes_
        self._device = device
        self._block = driver.mem_alloc(max(1, bytes_))
        self.address = int(self._block)

    def __del__(self) -> None:
        if hasattr(self, "_block"):
            self._device.drop(self._block)


class _Pinned:
    """Page-locked host memory as an array interface; the array that NumPy makes of it keeps it alive."""

    def __init__(self, device: Device, bytes_: int) -> None:
        self._device = device
        self._array = driver.pagelocked_empty(bytes_, np.uint8)
        self.__array_interface__ = self._array.__array_interface__

    def __del__(self) -> None:
        if hasattr(self, "_array"):
            self._device.drop(self._array.base)


class Graph:
    """Captured work, instantiated: launched with one call, at the addresses it was captured with."""

    def __init__(self, device: Device, graph: Any) -> None:
        self._device = device
        try:
            self._graph = _check(bindings.cuGraphInstantiate(graph, 0))
        finally:
            bindings.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Enqueue the whole of it on the device's stream; returns early."""
        _check(bindings.cuGraphLaunch(self._graph, self._device.stream))

    def __del__(self) -> None:
        if hasattr(self, "_graph"):
            self._device.drop(_Instance(self._graph))


class _Instance:
    """What is left of a graph that was dropped."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def free(self) -> None:
        bindings.cuGraphExecDestroy(self._graph)


def _forget(context: Any) -> None:
    with suppress(driver.Error):
        context.detach()


def describe_devices() -> str:
    """The CUDA driver and every device that it sees. Raises BackendError where the driver cannot be used."""
    try:
        driver.init()
        told = []
        for device in map(driver.Device, range(driver.Device.count())):
            major, minor = device.compute_capability()
            told.append(f"{device.name()} (sm{major}{minor}, {device.total_memory() / 2**20:.0f} MiB)")
        version = driver.get_driver_version()
    except driver.Error as error:
        raise BackendError(f"the CUDA driver cannot be used: {error}", remedy=_NO_DEVICE) from error
    return f"driver for CUDA {version // 1000}.{version % 1000 // 10}: {', '.join(told) or 'no device'}"


def _check(answer: Any) -> Any:
    """The result of a call of cuda-bindings. Raises what pycuda would raise."""
    code, *values = answer
    if code == bindings.CUresult.CUDA_SUCCESS:
        return values[0] if values else None
    _, text = bindings.cuGetErrorName(code)
    kind = driver.MemoryError if code == bindings.CUresult.CUDA_ERROR_OUT_OF_MEMORY else driver.RuntimeError
    raise kind(f"stream capture or graph: {(text or b'unknown error').decode()}")


_NO_DEVICE = "See `pixrt doctor`; install the NVIDIA driver, or choose --backend ort-cpu"
_LESS_MEMORY = "Use a smaller --resolution or --max-batch, --low-memory, or close other programs on the GPU"
_FAILED = "Try again; if it fails again, choose --backend ort-cpu and report it"
_LOST = "Start pixrt again; `nvidia-smi` and the system's log say more"
