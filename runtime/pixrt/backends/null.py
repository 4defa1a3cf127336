"""The null backend: right shapes, no work. It measures the runtime's own cost and runs without any engine library.

It can stand in for a device: with provider options it takes the time that a device takes. Milliseconds: `step_ms` of a
call of the UNet, `row_ms` of each of its rows, of which `least_rows` are paid at least; `encode_ms` and `decode_ms` of
both halves of the VAE. And `noise`: its arrays hold numbers up to that far from zero, so that what comes out is as long
a file as a photograph is.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pixrt.backends.host import HostBackend, HostEngine
from pixrt.backends.info import BackendInfo
from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import Component, ComponentSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import OptionError
from pixrt.options.session import SessionOptions

_SUMMARY = "computes nothing"
_OPTIONS = ("step_ms", "row_ms", "least_rows", "encode_ms", "decode_ms", "noise")


class NullEngine(HostEngine):
    """Checks what is bound to it, leaves the outputs as they are; a call of so many rows takes `takes_ms`."""

    def __init__(self, spec: ComponentSpec, takes_ms: Callable[[int], float] | None = None, noise: float = 0.0) -> None:
        super().__init__(spec)
        self._takes_ms = takes_ms
        self._noise = noise

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        """See `Engine.allocate`."""
        array = super().allocate(shape, dtype)
        if self._noise and np.issubdtype(array.dtype, np.floating):
            array[...] = np.random.default_rng(0).uniform(-self._noise, self._noise, array.shape)
        return array

    def tie(self, tensors: Mapping[str, Array]) -> Callable[[], None]:
        """A call that does nothing, for as long as it would take."""
        if self._takes_ms is None:
            return _nothing
        rows = tensors["context"] if "context" in tensors else tensors[self.inputs[0].name]
        seconds = self._takes_ms(len(rows)) / 1000
        return lambda: time.sleep(seconds)

    def close(self) -> None:
        """Nothing is held."""


class NullBackend(HostBackend):
    """Opens null engines. Raises OptionError for provider options that it does not have."""

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        super().__init__("null", _SUMMARY)
        self._takes = {name: _number(name, text) for name, text in (options or {}).items()}
        self._noise = self._takes.pop("noise", 0.0)

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> NullEngine:
        """Neither the file nor the weights are read."""
        takes = self._takes
        if component in (Component.UNET, Component.UNET_STEP):
            call, row, least = (takes.get(name, 0.0) for name in ("step_ms", "row_ms", "least_rows"))
            times: Callable[[int], float] | None = lambda rows: call + row * max(rows, least)  # noqa: E731
        else:
            whole = takes.get(
                {Component.VAE_ENCODER: "encode_ms", Component.VAE_DECODER: "decode_ms"}.get(component, "")
            )
            times = None if whole is None else lambda _: whole
        return NullEngine(bundle.manifest.component(component), times if takes else None, self._noise)


def _number(name: str, text: str) -> float:
    if name not in _OPTIONS:
        raise OptionError(
            f"the null backend has no provider option {name!r:.60}", remedy=f"It has {', '.join(_OPTIONS)}"
        )
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise OptionError(f"the provider option {name} is {text!r:.60}", remedy="It must be a number, 0 or more")
    return value


def _nothing() -> None:
    return None


def _open(info: BackendInfo, bundle: Bundle, options: SessionOptions) -> NullBackend:
    return NullBackend(options.provider_options)


INFO = BackendInfo(
    name="null", summary=_SUMMARY, open=_open, options=frozenset({"provider_options"}), is_automatic=False
)
