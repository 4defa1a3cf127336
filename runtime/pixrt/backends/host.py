"""Calls and loops of engines that run on the host's own arrays, and the base of backends that have only such engines.

Must not import a backend.
"""

import re
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
from pixrt.errors import BackendError, OutOfMemory

# Of the libraries' own allocators, CUDA's, and C++.
_NO_MEMORY = re.compile(r"failed to allocate|out of memory|bad_alloc|bad allocation", re.IGNORECASE)
Prepare = Callable[[Mapping[str, Array]], Callable[[], None]]
"""What makes a run of a network on arrays, to be called often."""


class HostCall:
    """A bound call whose held parts stand in the bound arrays themselves.

    Each number of rows is a prefix of the same arrays, prepared when it is first asked for.
    """

    def __init__(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None, prepare: Prepare) -> None:
        self._tensors = tensors
        self._held = held or {}
        self._prepare = prepare
        self._runs: dict[int | None, Callable[[], None]] = {}

    def __call__(self, rows: int | None = None) -> None:
        """See `BoundCall`."""
        if rows not in self._runs:
            self._runs[rows] = self._prepare({name: array[:rows] for name, array in self._tensors.items()})
        self._runs[rows]()

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundCall.hold`."""
        self._tensors[name][row, self._held[name] :] = values


class HostLoop:
    """A loop over two sets of arrays: the outputs of one are the carried inputs of the other."""

    def __init__(self, engine: Engine, shapes: Mapping[str, tuple[int, ...]], layout: LoopLayout) -> None:
        self._engine = engine
        self._layout = layout
        dtypes = {tensor.name: tensor.dtype for tensor in (*engine.inputs, *engine.outputs)}
        even: dict[str, Array] = {name: engine.allocate(shape, dtypes[name]) for name, shape in shapes.items()}
        odd = dict(even)
        for given, made in layout.carried.items():
            odd[given], odd[made] = even[made], even[given]
        self._sets = (even, odd)
        self._first_rows = np.arange(len(even[layout.index])) * even[layout.table].shape[1]
        self._streams: dict[int, Mapping[str, Array]] = {}
        self._calls: dict[tuple[int, int], BoundCall] = {}
        self._at = 0  # which set the next step reads

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundLoop.hold`."""
        self._sets[0][name][row] = values

    def load(self, slot: int, given: Mapping[str, Array], streams: Mapping[str, Array]) -> None:
        """See `BoundLoop.load`."""
        arrays = self._sets[self._at]
        for name in self._layout.carried:
            arrays[name][slot] = 0
        for name, values in given.items():
            arrays[name][slot][: len(values)] = values
        self._streams[slot] = streams

    def step(self, at: Sequence[int], rows: int) -> None:
        """See `BoundLoop.step`."""
        arrays = self._sets[self._at]
        np.add(self._first_rows, at, out=arrays[self._layout.index], casting="unsafe")
        for slot, streams in self._streams.items():
            for name, stream in streams.items():
                if at[slot] < len(stream):
                    arrays[name][slot] = stream[at[slot]]
        key = (self._at, rows)
        if key not in self._calls:
            layout = self._layout.rows
            self._calls[key] = self._engine.bind(
                {name: array[:rows] if name in layout else array for name, array in arrays.items()}
            )
        self._calls[key]()
        self._at = 1 - self._at

    def read(self, name: str, slot: int) -> Array:
        """See `BoundLoop.read`."""
        answer: Array = self._sets[1 - self._at][name][slot].copy()
        return answer

    def wait(self) -> None:
        """A step has run when it returns."""


def bind_loop(engine: Engine, shapes: Mapping[str, tuple[int, ...]], layout: LoopLayout) -> BoundLoop:
    """Tie a network to itself: by the engine where it can, else on arrays here. See `CanLoop.bind_loop`."""
    return engine.bind_loop(shapes, layout) if isinstance(engine, CanLoop) else HostLoop(engine, shapes, layout)


def failure(file: str, library: str, reason: str, error: Exception) -> BackendError:
    """What to raise if a run of a network failed in its library, which says only in words that memory ran out."""
    kind = OutOfMemory if _NO_MEMORY.search(str(error)) else BackendError
    return kind(f"{file} failed in {library}: {reason}", remedy="Try a smaller --resolution, or another --backend")


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
        return HostCall(tensors, held, self.tie)

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
