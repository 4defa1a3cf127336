"""OpenVINO's backend. Imports openvino only when it is opened."""

from pixrt.backends.info import BackendInfo
from pixrt.backends.protocol import Backend
from pixrt.bundles.store import Bundle
from pixrt.options.session import SessionOptions


def _open(info: BackendInfo, bundle: Bundle, options: SessionOptions) -> Backend:
    from pixrt.backends.openvino.backend import OpenVinoBackend

    return OpenVinoBackend(info.name, options.threads, options.cpu_precision)


INFO = BackendInfo(
    name="openvino",
    summary="OpenVINO, its CPU kernels",
    open=_open,
    extra="openvino",
    packages=("openvino",),
    modules=("openvino",),
    options=frozenset({"cpu_precision"}),
    is_on_cpu=True,
)
