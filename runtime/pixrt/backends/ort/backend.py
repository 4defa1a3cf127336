"""ONNX Runtime behind the `Engine` protocol, on arrays in the host's memory."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pixrt.backends.host import HostBackend, HostEngine
from pixrt.backends.ort.session import CPU, VERSION, open_session, run_error, run_options
from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import Component, ComponentSpec
from pixrt.bundles.store import Bundle

_RUN = run_options()


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
        except Exception as error:
            raise run_error(self._file, error) from error


class OrtBackend(HostBackend):
    """ONNX Runtime with one execution provider (CPU kernels serve what the provider leaves).

    `note` is what `describe` says besides.
    """

    def __init__(
        self,
        name: str,
        provider: str,
        threads: int | None,
        settings: Mapping[str, str] | None = None,
        note: str | None = None,
    ) -> None:
        super().__init__(name, f"onnxruntime {VERSION}" + (f"; {note}" if note else ""))
        self._provider = provider
        self._settings = dict(settings or {})
        self._threads = threads
        self.opens_aside = provider == CPU  # others have a device's memory and its streams in the threads they began in

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> OrtEngine:
        """See `Backend.open`."""
        session = open_session(
            bundle, component, weights, provider=self._provider, settings=self._settings, threads=self._threads
        )
        return OrtEngine(session, bundle.manifest.component(component), self._provider == CPU)
