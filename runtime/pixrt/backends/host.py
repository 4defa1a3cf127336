"""Calls and loops of engines that run on the host's own arrays. Must not import a backend."""

from collections.abc import Callable, Mapping

import numpy as np

from pixrt.backends.protocol import Array, BoundCall, Engine, LoopLayout


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
