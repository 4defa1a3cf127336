"""The null backend: right shapes, no work. It measures the runtime's own cost and runs without any engine library."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pixrt.backends.host import HostCall, HostLoop
from pixrt.backends.protocol import Array, BoundCall, BoundLoop, EngineMemory, LoopLayout, NewWeight, check_binding
from pixrt.bundles.engine_spec import SizeRange
from pixrt.bundles.manifest import Component, ComponentSpec
from pixrt.bundles.store import Bundle


class NullEngine:
    """Checks what is bound to it, leaves the outputs as they are."""

    def __init__(self, spec: ComponentSpec) -> None:
        self._spec = spec
        self.inputs, self.outputs = self._spec.inputs, self._spec.outputs

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        """See `Engine.allocate`."""
        return np.zeros(shape, dtype)

    def bind(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None = None) -> BoundCall:
        """Check the arrays; the call does nothing."""
        check_binding(self._spec, tensors)
        return HostCall(tensors, held, lambda arrays: _nothing)

    def bind_loop(self, shapes: Mapping[str, tuple[int, ...]], layout: LoopLayout) -> BoundLoop:
        """See `Engine.bind_loop`."""
        return HostLoop(self, shapes, layout)

    def refit(self, weights: Iterable[NewWeight]) -> bool:
        """See `Engine.refit`."""
        return True

    def close(self) -> None:
        """Nothing is held."""


class NullBackend:
    """Opens null engines."""

    name = "null"
    prefers_fused_step = False

    def describe(self) -> str:
        """See `Backend.describe`."""
        return "computes nothing"

    def problem(self, bundle: Bundle, component: Component, *, refit: bool = False) -> str | None:
        """See `Backend.problem`."""
        return None if component in bundle.manifest.components else f"the bundle has no {component}"

    def shapes(
        self, bundle: Bundle, component: Component, *, refit: bool = False, tensor: str | None = None
    ) -> tuple[SizeRange, ...]:
        """None: every shape is taken."""
        return ()

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> NullEngine:
        """Neither the file nor the weights are read."""
        return NullEngine(bundle.manifest.component(component))

    def memory(self) -> tuple[EngineMemory, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing is held."""


def _nothing() -> None:
    return None
