"""The backends by name: what is available here, why the rest is not, and opening one. Imports none until asked."""

import importlib.util
import os
from dataclasses import dataclass
from typing import get_args

from pixrt.backends.protocol import Backend
from pixrt.errors import BackendError, OptionError
from pixrt.options import BackendName

# Fastest first: "auto" takes the first that is available.
_PROVIDERS = {"ort-cuda": "CUDAExecutionProvider", "ort-cpu": "CPUExecutionProvider"}


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether a backend can be opened here; `reason` says why not, or with what it runs."""

    name: str
    available: bool
    reason: str


def backend_statuses() -> list[BackendStatus]:
    """Every backend, in the order that "auto" tries them; the null backend, which computes nothing, is last."""
    return [*map(_status, _PROVIDERS), BackendStatus("null", True, "computes nothing")]


def _status(name: str) -> BackendStatus:
    if importlib.util.find_spec("onnxruntime") is None:
        return BackendStatus(name, False, "onnxruntime is not installed")
    from pixrt.backends import onnx_runtime

    problem = onnx_runtime.provider_problem(_PROVIDERS[name])
    version = f"onnxruntime {onnx_runtime.VERSION}"
    return BackendStatus(name, problem is None, version if problem is None else f"{version} {problem}")


def open_backend(name: BackendName, threads: int | None) -> Backend:
    """Open a backend; "auto" takes the first that can run here.

    `threads` is for the CPU kernels, None for one per core. Raises OptionError for an unknown name or a thread count
    out of range, BackendError where the backend is not available here.
    """
    if name not in get_args(BackendName):
        raise OptionError(f"backend is {name!r}", remedy=f"Choose one of {', '.join(get_args(BackendName))}")
    limit = 4 * (os.cpu_count() or 1)
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= limit):
        raise OptionError(f"threads is {threads!r}", remedy=f"It must be from 1 to {limit}, four times the cores here")
    if name == "null":
        from pixrt.backends.null import NullBackend

        return NullBackend()
    refused = []
    for candidate in _PROVIDERS if name == "auto" else (name,):
        status = _status(candidate)
        if status.available:
            from pixrt.backends.onnx_runtime import OrtBackend

            return OrtBackend(candidate, _PROVIDERS[candidate], threads)
        refused.append(f"{candidate} is not available: {status.reason}")
    raise BackendError(
        "; ".join(refused),
        remedy="Install one: `pip install 'pixrt[cpu]'`, or `pip install 'pixrt[cuda]'` for an NVIDIA GPU",
    )
