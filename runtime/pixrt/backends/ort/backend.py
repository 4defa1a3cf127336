"""ONNX Runtime behind the `Engine` protocol. Beside `probe` the only module of the runtime that imports onnxruntime."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pixrt.backends.host import HostBackend, HostEngine, failure
from pixrt.backends.interrupting import on_interrupt
from pixrt.backends.ort.probe import first_line
from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import Component, ComponentSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError, Cancelled

VERSION: str = onnxruntime.__version__
_CPU = "CPUExecutionProvider"
# What INT8 graphs say is what runs. Without VNNI, products of 8-bit numbers would be added up in 16 bits, and overflow;
# where only weights are INT8, a matrix product would round its other factor to 8 bits, too.
EXACT = {"session.x64quantprecision": "1", "session.qdq_matmulnbits_accuracy_level": "1"}


def _share_arena() -> None:
    """One arena for the scratch memory of all sessions: the networks of a bundle never run at the same time."""
    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    same_as_requested = {"arena_extend_strategy": 1}  # the default doubles the arena at every extension
    onnxruntime.create_and_register_allocator(cpu, onnxruntime.OrtArenaCfg(same_as_requested))


_share_arena()
_RUN = onnxruntime.RunOptions()  # of all runs: they end together


def _terminate(is_over: bool) -> None:
    _RUN.terminate = is_over


on_interrupt(_terminate)


class OrtEngine(HostEngine):
    """One session; inputs and outputs are bound by address, so a run moves nothing on the CPU."""

    def __init__(self, session: Any, spec: ComponentSpec, on_host: bool) -> None:
        super().__init__(spec)
        self._session = session
        self._on_host = on_host

    def tie(self, tensors: Mapping[str, Array]) -> Callable[[], None]:
        """See `HostEngine.tie`."""
        binding = self._session.io_binding()
        for tensor in self._spec.inputs:
            array = tensors[tensor.name]
            binding.bind_input(tensor.name, "cpu", 0, np.dtype(tensor.dtype), array.shape, array.ctypes.data)
        for tensor in self._spec.outputs:
            array = tensors[tensor.name]
            binding.bind_output(tensor.name, "cpu", 0, np.dtype(tensor.dtype), array.shape, array.ctypes.data)
        return _OrtCall(self._session, binding, tensors, self._spec.file, self._on_host)

    def close(self) -> None:
        """Drop the session; its memory goes with the last call bound to it."""
        self._session = None


class _OrtCall:
    """`tensors` is held so that the bound addresses stay valid."""

    def __init__(self, session: Any, binding: Any, tensors: Mapping[str, Array], file: str, on_host: bool) -> None:
        self._run = session.run_with_iobinding
        self._binding = binding
        self._tensors = tensors
        self._file = file
        self._on_host = on_host

    def __call__(self) -> None:
        try:
            self._run(self._binding, _RUN)
            if not self._on_host:
                self._binding.synchronize_outputs()
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            if _RUN.terminate:
                raise Cancelled("the run of a network was stopped", remedy="What was finished before is kept") from None
            raise failure(self._file, "ONNX Runtime", first_line(error), error) from error


class OrtBackend(HostBackend):
    """ONNX Runtime with one execution provider (CPU kernels serve what the provider leaves)."""

    def __init__(
        self, name: str, provider: str, threads: int | None, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name, f"onnxruntime {VERSION}")
        self._provider = provider
        self._settings = dict(settings or {})
        self._threads = threads
        self.opens_aside = (
            provider == _CPU
        )  # others have a device's memory and its streams in the threads they began in

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> OrtEngine:
        """See `Backend.open`."""
        spec = bundle.manifest.component(component)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.load_model_format", "ONNX")  # it would go by the file's name
        # A memory pattern is one more block beside the arena; without it a full-size UNet takes 0.2 GiB less, as fast.
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        for name, value in EXACT.items():
            options.add_session_config_entry(name, value)
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        given = list(weights)
        # That cache knows a graph by its nodes: it would give the engine of other weights.
        uncached = {"trt_engine_cache_enable": "False"} if given and "trt_engine_cache_enable" in self._settings else {}
        chosen = (self._provider, self._settings | uncached)
        providers = [chosen] if self._provider == _CPU else [chosen, _CPU]
        with bundle.loading(component) as path:
            model, _held = _with_weights(path, given, options)
            try:
                session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
            except Exception as error:  # as above
                raise BackendError(
                    f"ONNX Runtime {VERSION} cannot open {path.name}: {first_line(error)}",
                    remedy="Export the checkpoint again, or update onnxruntime",
                ) from error
        if self._provider not in session.get_providers():
            raise BackendError(
                f"ONNX Runtime {VERSION} did not take {self._provider} for {spec.file}",
                remedy="See `pixrt doctor` for what this machine has, or choose --backend ort-cpu",
            )
        return OrtEngine(session, spec, self._provider == _CPU)


def _with_weights(path: Path, weights: Iterable[NewWeight], options: Any) -> tuple[str | bytes, dict[str, Any]]:
    """What to open in place of `path`, and the new weights that must live until it is open.

    `SessionOptions.add_initializer` would come after the graph's optimisation, too late for the weights that it has
    folded or laid out anew, such as those of convolutions. So weights inside the graph's file are written over in
    memory, and those outside it are given to ONNX Runtime, which takes them in before it optimises, and copies them.
    """
    graph: bytearray | None = None
    outside = {}
    for weight in weights:
        if weight.file == path.name:
            graph = bytearray(path.read_bytes()) if graph is None else graph
            graph[weight.offset : weight.offset + weight.values.nbytes] = weight.values.tobytes()
        else:
            outside[weight.initializer] = onnxruntime.OrtValue.ortvalue_from_numpy(weight.values)
    if outside:
        options.add_external_initializers(list(outside), list(outside.values()))
    if graph is None:
        return str(path), outside
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    return bytes(graph), outside
