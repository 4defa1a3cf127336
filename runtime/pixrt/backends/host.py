"""Calls and loops of engines that run on the host's own arrays, and the base of backends that have only such engines.

Must not import a backend.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pixrt.backends.protocol import (
    Array,
    BoundCall,
    BoundLoop,
    CanLoop,
    Engine,
    LoopLayout,
    NewWeight,
    check_binding,
)
from pixrt.bundles.manifest import Component, ComponentSpec
from pixrt.bundles.store import Bundle


class HostCall:
    """A bound call whose held parts stand in the bound arrays themselves."""

    def __init__(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None, run: Callable[[], None]) -> None:
        self._tensors = tensors
        self._held = held or {}
        self._run = run

    def __call__(self) -> None:
        """See `BoundCall`."""
        self._run()

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundCall.hold`."""
        self._tensors[name][row, self._held[name] :] = values


class HostLoop:
    """A loop over two sets of arrays: the outputs of one are the carried inputs of the other."""

    def __init__(self, engine: Engine, shapes: Mapping[str, tuple[int, ...]], layout: LoopLayout) -> None:
        self._engine = engine
        self._rows = layout.rows
        dtypes = {tensor.name: tensor.dtype for tensor in (*engine.inputs, *engine.outputs)}
        even: dict[str, Array] = {name: engine.allocate(shape, dtypes[name]) for name, shape in shapes.items()}
        odd = dict(even)
        for given, made in layout.carried.items():
            odd[given], odd[made] = even[made], even[given]
        self._sets = (even, odd)
        self._carried = tuple(layout.carried)
        self._calls: dict[tuple[int, int], BoundCall] = {}
        self._tables: Mapping[str, Array] = {}
        self._at = 0  # which set the next step reads

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundLoop`."""
        self._sets[0][name][row] = values

    def load(self, tables: Mapping[str, Array], start: Mapping[str, Array]) -> None:
        """See `BoundLoop`."""
        self._tables = tables
        self._at = 0
        for name in self._carried:
            np.copyto(self._sets[0][name], start.get(name, 0))

    def step(self, index: int, rows: int) -> None:
        """See `BoundLoop`."""
        for name, table in self._tables.items():
            np.copyto(self._sets[0][name], table[index])
        key = (self._at, rows)
        if key not in self._calls:
            arrays = self._sets[self._at]
            self._calls[key] = self._engine.bind(
                {name: array[:rows] if name in self._rows else array for name, array in arrays.items()}
            )
        self._calls[key]()
        self._at = 1 - self._at

    def read(self, name: str) -> Array:
        """See `BoundLoop`."""
        return self._sets[1 - self._at][name].copy()


def bind_loop(engine: Engine, shapes: Mapping[str, tuple[int, ...]], layout: LoopLayout) -> BoundLoop:
    """Tie a network to itself: by the engine where it can, else on arrays here. See `CanLoop.bind_loop`."""
    return engine.bind_loop(shapes, layout) if isinstance(engine, CanLoop) else HostLoop(engine, shapes, layout)


class HostEngine(ABC):
    """A network that reads and writes arrays in the host's memory where they are: an engine gives `tie` and `close`."""

    def __init__(self, spec: ComponentSpec) -> None:
        self._spec = spec
        self.inputs, self.outputs = spec.inputs, spec.outputs

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        """See `Engine.allocate`."""
        return np.zeros(shape, dtype)

    def bind(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None = None) -> BoundCall:
        """See `Engine.bind`."""
        check_binding(self._spec, tensors)
        tensors = dict(tensors)
        return HostCall(tensors, held, self.tie(tensors))

    @abstractmethod
    def tie(self, tensors: Mapping[str, Array]) -> Callable[[], None]:
        """A call that runs the network on these arrays, which were checked and live as long as it."""

    @abstractmethod
    def close(self) -> None:
        """See `Engine.close`."""


class HostBackend(ABC):
    """A backend that opens a bundle's ONNX files, of any shape, in the host's memory: it gives `open` only.

    `name` is what the user chose it by; `runs_with` is what `describe` tells.
    """

    prefers_fused_step = False

    def __init__(self, name: str, runs_with: str) -> None:
        self.name = name
        self._runs_with = runs_with

    def describe(self) -> str:
        """See `Backend.describe`."""
        return self._runs_with

    def problem(self, bundle: Bundle, component: Component, *, refit: bool = False) -> str | None:
        """See `Backend.problem`: other weights are taken when a network is opened."""
        return None if component in bundle.manifest.components else f"the bundle has no {component}"

    @abstractmethod
    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> HostEngine:
        """See `Backend.open`."""

    def close(self) -> None:  # noqa: B027  # the engines hold all there is
        """Nothing is held."""
