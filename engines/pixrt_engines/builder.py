"""One build: an ONNX file, its profiles and knobs become the bytes of a plan.

The library works in a thread of its own, so that Ctrl-C reaches Python at once and stops it at its next step.
"""

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pixrt.bundles.engine_spec import ShapeProfile
from pixrt.errors import EngineError, OutputError
from pixrt.files import make_folder
from pixrt_engines.library import Library
from pixrt_engines.options import Knobs
from pixrt_engines.parsing import Attentions, count_attentions, parse, require_supported
from pixrt_engines.progress import OnProgress, monitor
from pixrt_engines.settings import configure, load_timing_cache, save_timing_cache, timing_cache_name
from pixrt_engines.targets import Targets

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan's bytes, and what is known of the network that it was built of."""

    data: memoryview
    attentions: Attentions


# What the library says when something of the machine is missing, and what helps.
_CAUSES = (
    ("within workspace limit", "Raise --workspace-mib, or leave it out"),
    ("CUDA_SUCCESS", "It needs a GPU for this: leave --refittable and --strip out, or build where there is one"),
    ("Cuda Runtime", "It asked for a GPU: name targets, such as --target sm86,sm89"),
    ("libnvinfer_lean", "Leave --version-compatible out: the library's lean runtime is not installed"),
    ("OutOfMemory", "Free memory, or build for smaller sizes"),
    ("bad_alloc", "Free memory, or build for smaller sizes"),
)


def build_plan(
    library: Library,
    component: str,
    path: Path,
    profiles: Sequence[ShapeProfile],
    targets: Targets,
    knobs: Knobs,
    on_progress: OnProgress,
) -> "BuiltPlan":
    """Build a plan. Raises EngineError, or KeyboardInterrupt when the library has stopped."""
    stop = threading.Event()

    def work() -> BuiltPlan:
        parsed, unsupported = parse(library, path)
        require_supported(component, unsupported)
        config = configure(library, parsed, profiles, targets, knobs)
        cache = timing_cache_name(library, targets)
        if knobs.timing_cache is not None:
            make_folder(knobs.timing_cache)  # told before the build, not after it
            load_timing_cache(config, knobs.timing_cache, cache)
        config.progress_monitor = watcher = monitor(library, on_progress, stop)
        plan = None if stop.is_set() else parsed.builder.build_serialized_network(parsed.network, config)
        config.progress_monitor = None
        del watcher  # not earlier: the library calls it until here
        if plan is None:
            raise _failed(library, component, parsed.logger.lines)
        if knobs.timing_cache is not None:
            try:
                save_timing_cache(config, knobs.timing_cache, cache)
            except OutputError as error:
                warnings.warn(f"the kernel timings are lost, the engine is not: {error}", stacklevel=1)
        return BuiltPlan(memoryview(plan), count_attentions(library, parsed))

    return _in_thread(work, stop)


def _in_thread(work: Callable[[], Answer], stop: threading.Event) -> Answer:
    outcome: list[Answer | BaseException] = []
    begun, finished = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        try:
            if not stop.is_set():
                outcome.append(work())
        except BaseException as error:
            outcome.append(error)
        finally:
            finished.set()

    try:
        # Not `join`, which refuses a thread whose start was interrupted.
        threading.Thread(target=run, name="pixrt-build", daemon=True).start()
        while not finished.wait(0.1):
            pass
    except BaseException:
        # The library aborts a process that ends under it, so its next step is waited for.
        stop.set()
        if begun.is_set():
            finished.wait()
        raise
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


def _failed(library: Library, component: str, lines: list[str]) -> EngineError:
    said = "; ".join(lines)
    remedy = next((remedy for sign, remedy in _CAUSES if sign in said), "Report it with this message")
    reason = said[:400].rstrip(". ") or "it gives no reason"
    return EngineError(f"{library.name} {library.version} cannot build the {component}: {reason}", remedy=remedy)
