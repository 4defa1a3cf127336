"""The null backend: right shapes, no work. It measures the runtime's own cost and runs without any engine library."""

from collections.abc import Callable, Iterable, Mapping

from pixrt.backends.host import HostBackend, HostEngine
from pixrt.backends.info import BackendInfo
from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle

_SUMMARY = "computes nothing"


class NullEngine(HostEngine):
    """Checks what is bound to it, leaves the outputs as they are."""

    def tie(self, tensors: Mapping[str, Array]) -> Callable[[], None]:
        """A call that does nothing."""
        return _nothing

    def close(self) -> None:
        """Nothing is held."""


class NullBackend(HostBackend):
    """Opens null engines."""

    def __init__(self) -> None:
        super().__init__("null", _SUMMARY)

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> NullEngine:
        """Neither the file nor the weights are read."""
        return NullEngine(bundle.manifest.component(component))


def _nothing() -> None:
    return None


INFO = BackendInfo(name="null", summary=_SUMMARY, open=lambda info, bundle, options: NullBackend(), is_automatic=False)
