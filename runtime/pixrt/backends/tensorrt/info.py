"""TensorRT's two backends. Imports CUDA's bindings and the library only when one is opened.

Must not import TensorRT: the backend has its module.
"""

from pixrt.backends.info import BackendInfo
from pixrt.backends.protocol import Backend
from pixrt.bundles.engine_spec import EngineLibrary
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError
from pixrt.options.session import SessionOptions


def _info(name: str, library: EngineLibrary, package: str, summary: str) -> BackendInfo:
    return BackendInfo(
        name=name,
        summary=summary,
        open=_open,
        extra=name,
        packages=(package, "pycuda", "cuda-bindings"),
        modules=("pycuda", "cuda.bindings", library),
        needs="an NVIDIA GPU, and engines that `pixrt build` made",
        options=frozenset({"weight_budget_mib"}),
        library=library,
    )


def _open(info: BackendInfo, bundle: Bundle, options: SessionOptions) -> Backend:
    library = info.library
    assert library is not None
    # What needs no device is looked at first: it is also what most machines lack.
    if not any(engine.library == library for engine in bundle.manifest.engines):
        raise BackendError(
            f"{info.name}: the bundle {bundle.manifest.name!r} has no {library} engines",
            remedy=f"Build them: `pixrt build {bundle.folder} --library {info.name}`",
        )
    try:
        from pixrt.backends.tensorrt.backend import TensorRtBackend, import_library
    except (ImportError, OSError) as error:  # pycuda without a driver
        reason = str(error).splitlines()[0]
        raise BackendError(f"{info.name}: CUDA cannot be used: {reason}", remedy="Install the NVIDIA driver") from error
    budget = None if options.weight_budget_mib is None else options.weight_budget_mib << 20
    module = import_library(library, info.install)
    backend = TensorRtBackend(
        info.name,
        library,
        module,
        graphs=options.cuda_graphs,
        weight_budget_bytes=budget,
        trust_engines=options.trust_engines,
    )
    try:
        for component in backend.networks(bundle):
            backend.engines(bundle, component)
    except BackendError:
        backend.close()
        raise
    return backend


INFOS = (
    _info("tensorrt", "tensorrt", "tensorrt", "TensorRT, engines built on the same GPU"),
    _info("tensorrt-rtx", "tensorrt_rtx", "tensorrt-rtx-cu13", "TensorRT-RTX, engines built for chosen GPUs"),
)
