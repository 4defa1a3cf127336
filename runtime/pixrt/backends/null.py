"""The null backend: right shapes, no work. It measures the runtime's own cost and runs without any engine library."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pixrt.backends.protocol import Array, BoundCall, NewWeight, check_binding
from pixrt.spec import ComponentSpec, TensorSpec


class NullEngine:
    """Checks what is bound to it, leaves the outputs as they are."""

    def __init__(self, spec: ComponentSpec) -> None:
        self._spec = spec

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the inputs."""
        return self._spec.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the outputs."""
        return self._spec.outputs

    def bind(self, tensors: Mapping[str, Array]) -> BoundCall:
        """Check the arrays; the call does nothing."""
        check_binding(self._spec, tensors)
        return _nothing

    def close(self) -> None:
        """Nothing is held."""


class NullBackend:
    """Opens null engines."""

    name = "null"

    def open(self, path: Path, spec: ComponentSpec, weights: Iterable[NewWeight] = ()) -> NullEngine:
        """Neither the file nor the weights are read."""
        return NullEngine(spec)


def _nothing() -> None:
    return None
