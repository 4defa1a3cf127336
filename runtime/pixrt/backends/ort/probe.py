"""Whether an execution provider can run here, tried before a bundle is opened.

Beside `session` the only module of the runtime that imports onnxruntime.
"""

import contextlib
import ctypes
import importlib.util
import io
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from pixrt.backends.driver import driver_problem

PROVIDERS: tuple[str, ...] = tuple(onnxruntime.get_available_providers())
_CPU = "CPUExecutionProvider"
_WARNING, _FATAL = 2, 4  # severities of its logger; the first is its default
# Shapes of profiles name tensors of the real graphs, and of the probe no engine is to be kept.
_LEFT_OUT = re.compile("profile|runtime_cache")
_NOT_KEPT = {"trt_engine_cache_enable": "False", "trt_timing_cache_enable": "False"}

# A graph of one Conv node of opset 17: x [1, 1, 3, 3] with a kernel of nine ones, so y [1, 1, 1, 1] is the sum of x.
_CONVOLUTION = (
    b'\x08\x08:\x83\x01\n\x0f\n\x01x\n\x01w\x12\x01y"\x04Conv\x12\x01g*3\x08\x01\x08\x01\x08\x03\x08\x03\x10\x01B\x01wJ$'
    + np.ones(9, "<f4").tobytes()
    + b"Z\x1b\n\x01x\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x03\n\x02\x08\x03"
    b"b\x1b\n\x01y\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


def provider_library(provider: str) -> Path:
    """The file of a provider that ONNX Runtime loads when it is asked for, whether it is there or not."""
    name = {"NvTensorRTRTXExecutionProvider": "nv_tensorrt_rtx"}.get(provider)
    name = name or provider.removesuffix("ExecutionProvider").lower()
    return Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"


def provider_problem(provider: str, settings: Mapping[str, str]) -> str | None:
    """Why an execution provider cannot run here with these options, None where it can.

    That a provider is listed says only that it was compiled in. So the driver is looked at, the libraries that pip
    brought are loaded, and a convolution is computed: the first one loads cuDNN, and ONNX Runtime falls back to the CPU
    in silence unless that is forbidden. An option that this version does not have is refused here, too.
    """
    if provider not in PROVIDERS:
        return f"has no {provider}"
    if provider == _CPU:
        return None
    built_for = str(getattr(onnxruntime, "cuda_version", "") or "").partition(".")[0]
    if built_for.isdigit() and (problem := driver_problem(int(built_for))) is not None:
        return f"onnxruntime {onnxruntime.__version__}: {problem}"
    preload(provider)
    onnxruntime.set_default_logger_severity(_FATAL)  # what it would print is returned
    try:
        total = _convolve(provider, settings)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        return _not_loaded(provider) or f"cannot compute on {provider}: {first_line(error)}"
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
    return None if total == 9 else f"computes wrong on {provider}: a convolution gives {total} in place of 9"


@cache
def preload(provider: str) -> None:
    """Load what pip brought of CUDA, cuDNN and TensorRT: the provider's library finds by name only what is loaded.

    What is not there is left to the machine's own search paths.
    """
    load = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if load is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            load()
    if provider == "TensorrtExecutionProvider":
        for library in tensorrt_libraries():
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(library))


def tensorrt_libraries() -> Iterator[Path]:
    """TensorRT 10's libraries in pip's package, which is that of TensorRT 11 too; each after those that it needs."""
    found = importlib.util.find_spec("tensorrt_libs")
    for folder in map(Path, (found and found.submodule_search_locations) or ()):
        for name in (
            "*nvinfer.so.10",
            "*nvinfer_10.dll",
            "*nvinfer_*.so.10*",
            "*nvonnxparser.so.10",
            "*nvonnxparser_10.dll",
        ):
            yield from sorted(folder.glob(name))


def first_line(error: Exception) -> str:
    """What an exception of ONNX Runtime says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _convolve(provider: str, settings: Mapping[str, str]) -> float:
    """The sum of nine ones, computed by a convolution on a provider, and by nothing else."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    tried = {name: _NOT_KEPT.get(name, value) for name, value in settings.items() if not _LEFT_OUT.search(name)}
    session = onnxruntime.InferenceSession(_CONVOLUTION, options, providers=[(provider, tried)], enable_fallback=0)
    (total,) = session.run(None, {"x": np.ones((1, 1, 3, 3), np.float32)})
    return float(total.sum())


def _not_loaded(provider: str) -> str | None:
    """What the provider's library lacks, if it cannot be loaded: ONNX Runtime does not say it."""
    try:
        ctypes.CDLL(str(provider_library(provider)))
    except OSError as error:
        return f"cannot load {provider}: {error}"
    return None
