"""Sessions of ONNX Runtime: how a network is opened, and the options and failures of its runs.

Beside `probe` the only module of the runtime that imports onnxruntime.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

import onnxruntime

from pixrt.backends.host import failure
from pixrt.backends.interrupting import on_interrupt
from pixrt.backends.ort.probe import first_line
from pixrt.backends.protocol import NewWeight
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError, Cancelled

VERSION: str = onnxruntime.__version__
CPU = "CPUExecutionProvider"
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
_is_over = False
_runs: WeakSet[Any] = WeakSet()


def _terminate(is_over: bool) -> None:
    global _is_over
    _is_over = is_over
    for options in list(_runs):
        options.terminate = is_over


on_interrupt(_terminate)


def run_options(**entries: str) -> Any:
    """Options of runs that end when all are to end."""
    options = onnxruntime.RunOptions()
    for name, value in entries.items():
        options.add_run_config_entry(name, value)
    options.terminate = _is_over
    _runs.add(options)
    return options


def run_error(file: str, error: Exception) -> Exception:
    """What to raise for what a run raised: onnxruntime's exceptions share no base class of their own."""
    if _is_over:
        return Cancelled("the run of a network was stopped", remedy="What was finished before is kept")
    return failure(file, "ONNX Runtime", first_line(error), error)


def open_session(
    bundle: Bundle,
    component: Component,
    weights: Iterable[NewWeight],
    *,
    provider: str,
    settings: Mapping[str, str],
    threads: int | None,
) -> Any:
    """A session of a component on one execution provider; the CPU serves what the provider leaves.

    Raises BackendError.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.load_model_format", "ONNX")  # it would go by the file's name
    # A memory pattern is one more block beside the arena; without it a full-size UNet takes 0.2 GiB less, as fast.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    for name, value in EXACT.items():
        options.add_session_config_entry(name, value)
    if threads is not None:
        options.intra_op_num_threads = threads
    given = list(weights)
    # That cache knows a graph by its nodes: it would give the engine of other weights.
    uncached = {"trt_engine_cache_enable": "False"} if given and "trt_engine_cache_enable" in settings else {}
    chosen = (provider, {**settings, **uncached})
    providers = [chosen] if provider == CPU else [chosen, CPU]
    with bundle.loading(component) as path:
        model, _held = _with_weights(path, given, options)
        try:
            session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
        except Exception as error:  # as in `run_error`
            raise BackendError(
                f"ONNX Runtime {VERSION} cannot open {path.name}: {first_line(error)}",
                remedy="Export the checkpoint again, or update onnxruntime",
            ) from error
    if provider not in session.get_providers():
        raise BackendError(
            f"ONNX Runtime {VERSION} did not take {provider} for {bundle.manifest.component(component).file}",
            remedy="See `pixrt doctor` for what this machine has, or choose --backend ort-cpu",
        )
    return session


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
