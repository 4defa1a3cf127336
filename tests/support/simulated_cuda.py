"""The simulated CUDA driver: built from `cuda_driver/`, loaded in place of NVIDIA's, counted and made to fail.

It keeps device memory in host memory, so the real pycuda and cuda-bindings run without a GPU. All asynchronous work is
late: it is done when something waits for it. It says nothing about speed.

Load it before pycuda and cuda-bindings, in a process of its own; this module imports neither, nor pixrt.
"""

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

SOURCES = Path(__file__).parent / "cuda_driver"
LIBRARY = "libcuda.so.1"
FLAGS = (
    *("-std=c11", "-O1", "-g", "-D_DEFAULT_SOURCE", "-pthread"),
    *("-fPIC", "-shared", "-fvisibility=hidden", f"-Wl,-soname,{LIBRARY}", "-Wl,-z,defs"),
)

# CUresult values, as in cuda.h.
OUT_OF_MEMORY = 2
DEVICE_UNAVAILABLE = 46


class SimulationError(RuntimeError):
    """The simulated driver cannot be built or loaded here."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the driver did. The names and their order are those of `struct counters` in `cuda_driver/driver.h`.

    Copies are counted when they are done, so each replay of a graph counts; syncs, captures and launches when called.
    """

    device_allocations: int
    device_frees: int
    live_device_bytes: int
    peak_device_bytes: int
    pinned_allocations: int
    pinned_frees: int
    live_pinned_bytes: int
    live_contexts: int
    live_streams: int
    live_events: int
    live_graphs: int
    live_graph_execs: int
    htod_copies: int
    htod_bytes: int
    dtoh_copies: int
    dtoh_bytes: int
    dtod_copies: int
    dtod_bytes: int
    pageable_copies: int
    memsets: int
    stream_syncs: int
    event_syncs: int
    context_syncs: int
    captures: int
    graph_launches: int
    host_functions: int
    queued_operations: int

    def __sub__(self, earlier: "Counters") -> "Counters":
        """What changed since `earlier`; negative where less is live."""
        return Counters(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(Counters)))


def cuda_headers() -> Path:
    """The folder of `cuda.h`: of the package nvidia-cuda-runtime, else of the toolkit at `CUDA_ROOT`."""
    nvidia = importlib.util.find_spec("nvidia")
    roots = list(nvidia.submodule_search_locations or ()) if nvidia is not None else []
    folders = [Path(root) / "cu13" / "include" for root in roots]
    folders.append(Path(os.environ.get("CUDA_ROOT", "/usr/local/cuda")) / "include")
    for folder in folders:
        if (folder / "cuda.h").is_file():
            return folder
    raise SimulationError(f"no cuda.h in {', '.join(map(str, folders))}; pip install 'nvidia-cuda-runtime>=13,<14'")


def build_driver(folder: Path | None = None) -> Path:
    """Build the library, or find it built; its path. `libcuda.so` stands beside it, to link against."""
    folder = folder or Path(tempfile.gettempdir()) / f"pixrt-simulated-cuda-{os.getuid()}"
    headers = cuda_headers()
    sources = sorted(SOURCES.glob("*.[ch]"))
    key = hashlib.sha256(repr(FLAGS).encode())
    for path in (*sources, headers / "cuda.h"):
        key.update(path.read_bytes())
    library = folder / key.hexdigest()[:16] / LIBRARY
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            built = Path(scratch) / LIBRARY
            code = [str(path) for path in sources if path.suffix == ".c"]
            command = [os.environ.get("CC", "gcc"), *FLAGS, "-isystem", str(headers), *code, "-ldl", "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SimulationError(f"the simulated driver does not compile ({command[0]}):\n{done.stderr}")
            (Path(scratch) / "libcuda.so").symlink_to(LIBRARY)
            (Path(scratch) / "libcuda.so").replace(library.with_name("libcuda.so"))
            built.replace(library)  # last: another process finds the folder whole
    return library


class SimulatedDriver:
    """The loaded library and its controls. One per process: `load_driver()`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._work: list[Callable[[], None]] = []
        self.raised: list[BaseException] = []  # by enqueued work: it cannot be raised through the driver
        library.simLog.restype = ctypes.c_size_t
        library.simLog.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        library.simCalls.restype = ctypes.c_uint64
        library.simCountersSize.restype = ctypes.c_size_t
        library.simTotal.argtypes = (ctypes.c_size_t,)
        library.simIsDevice.argtypes = (ctypes.c_void_p,)
        self._trampoline = ctypes.CFUNCTYPE(None, ctypes.c_size_t)(self._run)
        library.simEnqueue.argtypes = (ctypes.c_void_p, type(self._trampoline), ctypes.c_size_t)
        self._layout = ctypes.c_uint64 * len(fields(Counters))
        if library.simCountersSize() != ctypes.sizeof(self._layout):
            raise SimulationError(f"Counters has {len(fields(Counters))} fields, struct counters another number")

    def counters(self) -> Counters:
        """A snapshot."""
        values = self._layout()
        self._library.simCounters(ctypes.byref(values))
        return Counters(*values)

    def calls(self, function: str) -> int:
        """How often a function, such as `cuMemAlloc`, was called since the last reset."""
        return int(self._library.simCalls(function.encode()))

    def fail(self, function: str, nth: int = 1, code: int = OUT_OF_MEMORY, times: int = 1) -> None:
        """Let the nth next call of a function, and those after it, `times` in all, do nothing but return `code`.

        pycuda collects garbage and tries again where memory cannot be allocated: it takes two failures to see one.
        """
        for call in range(nth, nth + times):
            if self._library.simFail(function.encode(), call, code) != 0:
                raise ValueError(f"cannot let call {call} of {function} fail")

    def lose(self, function: str, nth: int = 1, code: int = DEVICE_UNAVAILABLE) -> None:
        """From the nth next call of a function on, let every call return `code` until `reset`.

        Calls that free or destroy still do so, and contexts can still be pushed and popped.
        """
        if self._library.simLose(function.encode(), nth, code) != 0:
            raise ValueError(f"cannot lose the device at call {nth} of {function}")

    def reset(self) -> None:
        """Forget injected failures, the lost device, the log and all counts but the live ones."""
        self._library.simReset()
        self.raised.clear()

    def log(self) -> list[str]:
        """What was found wrong since the last reset, in English, the first lines of it."""
        text = ctypes.create_string_buffer(1 << 17)
        self._library.simLog(text, len(text))
        return text.value.decode().splitlines()

    def set_total_bytes(self, total_bytes: int) -> None:
        """How much memory the device has; 8 GiB at first."""
        self._library.simTotal(total_bytes)

    def is_device(self, address: int) -> bool:
        """Whether an address lies in a live block of device memory."""
        return bool(self._library.simIsDevice(address))

    def enqueue(self, stream: int, work: Callable[[], None]) -> int:
        """Put `work` where a kernel would stand; the CUresult. It is kept alive for graphs that captured it."""
        self._work.append(work)
        return int(self._library.simEnqueue(stream, self._trampoline, len(self._work) - 1))

    def _run(self, index: int | None) -> None:
        try:
            self._work[index or 0]()
        except BaseException as error:
            self.raised.append(error)


_driver: SimulatedDriver | None = None


def load_driver(folder: Path | None = None) -> SimulatedDriver:
    """The driver of this process, built in `folder` where need be. Load it before anything looks for libcuda."""
    global _driver
    if _driver is None:
        taken = [name for name in ("pycuda._driver", "cuda.bindings.driver", "tensorrt") if name in sys.modules]
        maps = Path("/proc/self/maps")
        loaded = maps.read_text() if maps.exists() else ""
        if taken or "/libcuda.so" in loaded:
            found = ", ".join(taken) or "libcuda"
            raise SimulationError(f"{found} is already loaded; run the simulated tests in a process of their own")
        _driver = SimulatedDriver(ctypes.CDLL(str(build_driver(folder)), mode=ctypes.RTLD_GLOBAL))
    return _driver
