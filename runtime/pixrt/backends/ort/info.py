"""ONNX Runtime's backends, one for each of its execution providers. Imports onnxruntime only when one is opened."""

from functools import partial

from pixrt.backends.info import BackendInfo
from pixrt.backends.protocol import Backend
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError
from pixrt.options.session import SessionOptions

# Which CUDA the onnxruntime-gpu of an extra is built for.
CUDA_OF_EXTRA = {"cuda": 13, "cuda12": 12}
_GPU = "an NVIDIA GPU; for drivers that are older than 580 there is the extra cuda12"


def _info(
    name: str,
    provider: str,
    summary: str,
    *,
    extra: str = "cuda",
    packages: tuple[str, ...] = ("onnxruntime-gpu",),
    needs: str = _GPU,
    remedy: str | None = None,
) -> BackendInfo:
    return BackendInfo(
        name=name,
        summary=f"ONNX Runtime, {summary}",
        open=partial(_open, provider),
        extra=extra,
        packages=packages,
        modules=("onnxruntime",),
        needs=needs,
        options=frozenset({"provider_options"}),
        is_on_cpu=extra == "cpu",
        remedy=remedy,
    )


def _open(provider: str, info: BackendInfo, bundle: Bundle, options: SessionOptions) -> Backend:
    from pixrt.backends.ort.probe import provider_problem
    from pixrt.backends.ort.providers import provider_settings

    settings = provider_settings(provider, options.provider_options or {}, bundle.manifest)
    problem = provider_problem(provider, settings)
    if problem is not None:
        raise BackendError(f"{info.name} is not available: {problem}", remedy=info.install)
    note = None
    if provider == "CUDAExecutionProvider":
        try:
            from pixrt.backends.ort.device import OrtCudaBackend
        except (ImportError, OSError) as error:  # pycuda or cuda-bindings is not installed, or finds no driver
            note = f"latents cross to the device at every step without pycuda and cuda-bindings ({_reason(error)})"
        else:
            return OrtCudaBackend(info.name, options.threads, settings, graphs=options.cuda_graphs)
    from pixrt.backends.ort.backend import OrtBackend

    return OrtBackend(info.name, provider, options.threads, settings, note)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# Fastest first.
INFOS = (
    _info(
        "ort-tensorrt",
        "TensorrtExecutionProvider",
        "TensorRT provider",
        extra="ort-tensorrt",
        packages=("onnxruntime-gpu", "tensorrt-cu13-libs"),
        needs=f"{_GPU}, to which `pip install 'tensorrt-cu12-libs>=10.14,<11'` adds TensorRT 10",
    ),
    _info(
        "ort-tensorrt-rtx",
        "NvTensorRTRTXExecutionProvider",
        "TensorRT-RTX provider",
        needs=f"{_GPU} and an ONNX Runtime that was built with TensorRT-RTX",
        remedy="It needs an ONNX Runtime that was built with TensorRT-RTX; `pip install` of pixrt brings none",
    ),
    _info("ort-cuda", "CUDAExecutionProvider", "CUDA provider"),
    _info("ort-cpu", "CPUExecutionProvider", "its CPU kernels", extra="cpu", packages=("onnxruntime",), needs=""),
)
