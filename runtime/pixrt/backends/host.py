"""Calls and loops of engines that run on the host's own arrays. Must not import a backend."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pixrt.backends.protocol import Array, BoundCall, Engine, LoopLayout

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
            arrays[name][slot] = values
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
