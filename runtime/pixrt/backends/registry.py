"""The ladder of backends: which can run a bundle here, why others cannot, and opening one. Imports none until asked."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from pixrt.backends.protocol import Backend
from pixrt.bundles.engine_spec import LIBRARY_OF
from pixrt.bundles.manifest import NETWORKS, Component
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError, OptionError, PixrtError
from pixrt.options.session import BackendName, SessionOptions

_PROVIDERS = {
    "ort-tensorrt": "TensorrtExecutionProvider",
    "ort-tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "ort-cuda": "CUDAExecutionProvider",
    "ort-cpu": "CPUExecutionProvider",
}
_REMEDY = {
    "ort-cpu": "Install it: `pip install 'pixrt[cpu]'`",
    "ort-cuda": "Install it: `pip install 'pixrt[cuda]'`, on a machine with an NVIDIA GPU",
    "ort-tensorrt": "Install it: `pip install 'pixrt[cuda]'`, and TensorRT's libraries",
    "ort-tensorrt-rtx": "It needs an ONNX Runtime that was built with TensorRT-RTX; `pip install` of pixrt brings none",
}
# Fastest first: "auto" takes the first that opens.
LADDER: tuple[BackendName, ...] = (
    "tensorrt",
    "tensorrt-rtx",
    "ort-tensorrt",
    "ort-tensorrt-rtx",
    "ort-cuda",
    "ort-cpu",
)


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether a backend can be opened here; `reason` says why not, or with what it runs."""

    name: str
    available: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An open backend, and the faster ones that "auto" passed over for it, with their reasons."""

    backend: Backend
    passed_over: tuple[BackendStatus, ...]


def backend_statuses(bundle: Bundle) -> Iterator[BackendStatus]:
    """Every backend for a bundle, fastest first; the null backend, which computes nothing, is last."""
    for name in LADDER:
        try:
            backend = _open(name, bundle, SessionOptions())
        except PixrtError as error:
            yield BackendStatus(name, False, error.problem)
        else:
            yield BackendStatus(name, True, backend.describe())
            backend.close()
    yield BackendStatus("null", True, "computes nothing")


def open_backend(name: BackendName, bundle: Bundle, options: SessionOptions | None = None) -> Opened:
    """Open a backend that can run the bundle; "auto" takes the first of the ladder that opens, with plans all whole.

    Raises OptionError for an unknown name or options that it does not have, BackendError where the backend (for "auto":
    every one) cannot run the bundle here.
    """
    options = options or SessionOptions()
    check_options(name, options)
    if name != "auto":
        return Opened(_open(name, bundle, options), ())
    passed_over: list[BackendStatus] = []
    for candidate in LADDER:
        try:
            backend = _open(candidate, bundle, options, read_plans=True)
        except BackendError as error:
            passed_over.append(BackendStatus(candidate, False, error.problem))
        else:
            return Opened(backend, tuple(passed_over))
    raise BackendError(
        "; ".join(f"{status.name}: {status.reason}" for status in passed_over),
        remedy="Install one: `pip install 'pixrt[cpu]'`, or `pip install 'pixrt[cuda]'` for an NVIDIA GPU",
    )


def check_options(name: BackendName, options: SessionOptions) -> None:
    """Raise OptionError for a backend that there is not, or one without options that are given."""
    if name not in get_args(BackendName):
        raise OptionError(f"backend is {name!r}", remedy=f"Choose one of {', '.join(get_args(BackendName))}")
    if options.provider_options and name not in _PROVIDERS:
        raise OptionError(
            f"provider options are given for the backend {name}", remedy=f"Choose one of {', '.join(_PROVIDERS)}"
        )
    if options.weight_budget_mib is not None and name not in LIBRARY_OF:
        raise OptionError(
            f"a weight budget is given for the backend {name}",
            remedy=f"Choose {' or '.join(LIBRARY_OF)}, or leave it out",
        )


def _open(name: str, bundle: Bundle, options: SessionOptions, *, read_plans: bool = False) -> Backend:
    """Open one backend; TensorRT's plans are read when they are first needed, or now. Raises BackendError."""
    if name == "null":
        from pixrt.backends.null import NullBackend

        return NullBackend()
    if name in _PROVIDERS:
        return _open_onnxruntime(name, bundle, options)
    return _open_tensorrt(name, bundle, options, read_plans)


def _open_onnxruntime(name: str, bundle: Bundle, options: SessionOptions) -> Backend:
    _require(name, "onnxruntime", "cpu" if name == "ort-cpu" else "cuda")
    from pixrt.backends.ort.backend import OrtBackend, provider_problem
    from pixrt.backends.ort.providers import provider_settings

    settings = provider_settings(_PROVIDERS[name], options.provider_options or {}, bundle.manifest)
    problem = provider_problem(_PROVIDERS[name], settings)
    if problem is not None:
        raise BackendError(f"{name} is not available: {problem}", remedy=_REMEDY[name])
    return OrtBackend(name, _PROVIDERS[name], options.threads, settings)


def _open_tensorrt(name: str, bundle: Bundle, options: SessionOptions, read_plans: bool) -> Backend:
    for module in ("pycuda", "cuda.bindings"):
        _require(name, module, name)
    # What needs no device is looked at first: it is also what most machines lack.
    from pixrt.bundles.engine_files import read_engine

    library = LIBRARY_OF[name]
    _require(name, library, name)
    if not any(engine.library == library for engine in bundle.manifest.engines):
        raise BackendError(
            f"{name}: the bundle {bundle.manifest.name!r} has no {library} engines",
            remedy=f"Build them: `pixrt build {bundle.folder} --library {name}`",
        )
    try:
        from pixrt.backends.tensorrt.backend import TensorRtBackend, import_library
    except (ImportError, OSError) as error:  # pycuda without a driver
        reason = str(error).splitlines()[0]
        raise BackendError(f"{name}: CUDA cannot be used: {reason}", remedy="Install the NVIDIA driver") from error
    budget = None if options.weight_budget_mib is None else options.weight_budget_mib << 20
    backend = TensorRtBackend(name, import_library(library), graphs=options.cuda_graphs, weight_budget_bytes=budget)
    try:
        for component in NETWORKS:
            if component is Component.UNET and backend.problem(bundle, Component.UNET_STEP) is None:
                component = Component.UNET_STEP
            for spec in backend.engines(bundle, component):
                if read_plans:
                    read_engine(bundle.folder, spec, bundle.manifest)
    except BackendError:
        backend.close()
        raise
    return backend


def _require(name: str, module: str, extra: str) -> None:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        found = False
    if not found:
        raise BackendError(
            f"{name} is not available: {module} is not installed", remedy=f"pip install 'pixrt[{extra}]'"
        )
