"""Bound calls and loops on a CUDA device: which bytes travel when, and what is captured into a graph.

Everything here runs in the device's thread, the public methods of the calls excepted, which go there. Memory of a call
is allocated and its addresses are set once, when it is made. Must not import TensorRT.
"""

from collections.abc import Callable, Mapping

import numpy as np

from pixrt.backends.protocol import Array, LoopLayout
from pixrt.backends.tensorrt.context import TensorRtContext
from pixrt.backends.tensorrt.cuda import Memory
from pixrt.backends.tensorrt.execution import Execution, Repeated, Shapes
from pixrt.bundles.manifest import ComponentSpec
from pixrt.errors import BackendError


class DeviceCall:
    """A bound call: what is not held travels to the device, the network runs, the outputs travel back."""

    def __init__(
        self,
        owner: TensorRtContext,
        spec: ComponentSpec,
        execution: Execution,
        tensors: Mapping[str, Array],
        held: Mapping[str, int],
    ) -> None:
        self._device = device = owner.device
        self._owner = owner
        self._held = dict(held)
        # An array in ordinary memory goes by way of a pinned one, for only those are copied while others work.
        self._arrays = {
            name: array if device.is_pinned(array) else device.pinned(array.shape, array.dtype)
            for name, array in tensors.items()
        }
        self._memory = {name: device.allocate(array.nbytes) for name, array in tensors.items()}
        self._shapes = {name: array.shape for name, array in tensors.items()}
        self._dtypes = {name: array.dtype for name, array in tensors.items()}
        outputs = {tensor.name for tensor in spec.outputs}
        staged = {name: array for name, array in tensors.items() if self._arrays[name] is not array}
        self._before = [(self._arrays[n], a) for n, a in staged.items() if n not in outputs and held.get(n) != 0]
        self._after = [(a, self._arrays[n]) for n, a in staged.items() if n in outputs]
        self._uploads = [
            self._upload(name, held.get(name)) for name in tensors if name not in outputs and held.get(name) != 0
        ]
        self._downloads = [(self._arrays[name], self._memory[name]) for name in outputs]
        execution.set_addresses(self._memory)
        self._repeated = Repeated(owner, execution)

    def __call__(self) -> None:
        """See `BoundCall`."""
        for pinned, array in self._before:
            np.copyto(pinned, array)
        self._device.run(self._run)
        for array, pinned in self._after:
            np.copyto(array, pinned)

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundCall.hold`."""
        self._device.run(self._hold, name, row, values)

    def _run(self) -> None:
        self._repeated(self._work)
        self._device.synchronize()

    def _work(self) -> None:
        for upload in self._uploads:
            upload()
        self._repeated.execution.enqueue()
        for array, memory in self._downloads:
            self._device.download(array, memory)

    def _upload(self, name: str, held: int | None) -> Callable[[], None]:
        """The upload of an input, or of the part of it before what is held."""
        array, memory, device = self._arrays[name], self._memory[name], self._device
        if held is None:
            return lambda: device.upload(memory, array)
        rows, size = array.shape[:2]
        return device.strided_upload(memory, array, array.nbytes // (rows * size) * held)

    def _hold(self, name: str, row: int, values: Array) -> None:
        rows, size = self._shapes[name][:2]
        row_bytes = self._memory[name].bytes // rows
        offset = row * row_bytes + row_bytes // size * self._held[name]
        copy = self._owner.held.get(values, self._dtypes[name])
        if copy.bytes != (row + 1) * row_bytes - offset:
            raise BackendError(
                f"{list(values.shape)} is held in {name} of {list(self._shapes[name])}", remedy="Report this error"
            )
        self._device.copy(self._memory[name], copy, copy.bytes, target_offset=offset)


class DeviceLoop:
    """A bound loop: tables, noise and start values are uploaded before it, and nothing travels until it is read."""

    def __init__(
        self,
        owner: TensorRtContext,
        spec: ComponentSpec,
        make_execution: Callable[[Shapes], Execution],
        shapes: Shapes,
        layout: LoopLayout,
    ) -> None:
        self._owner = owner
        self._device = device = owner.device
        self._make_execution = make_execution
        self._layout = layout
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._dtypes = {tensor.name: np.dtype(tensor.dtype) for tensor in (*spec.inputs, *spec.outputs)}
        self._inputs = {tensor.name for tensor in spec.inputs}
        self._memory = {}
        for name, dtype in self._dtypes.items():
            self._memory[name] = device.allocate(int(np.prod(self._shapes[name])) * dtype.itemsize)
            if name in self._inputs:
                device.fill_zero(self._memory[name])
        self._tables: dict[str, tuple[Array, Memory]] = {}
        self._in_use: list[tuple[Memory, Memory, int]] = []
        self._staging: dict[str, Array] = {}
        self._steps: dict[int, Repeated] = {}

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundLoop.hold`."""
        self._device.run(self._hold, name, row, values)

    def load(self, tables: Mapping[str, Array], start: Mapping[str, Array]) -> None:
        """See `BoundLoop.load`."""
        self._device.run(self._load, tables, start)

    def step(self, index: int, rows: int) -> None:
        """See `BoundLoop.step`."""
        self._device.run(self._step, index, rows)

    def read(self, name: str) -> Array:
        """See `BoundLoop.read`."""
        return self._device.run(self._read, name)

    def _hold(self, name: str, row: int, values: Array) -> None:
        copy = self._owner.held.get(values, self._dtypes[name])
        self._device.copy(self._memory[name], copy, copy.bytes, target_offset=row * copy.bytes)

    def _load(self, tables: Mapping[str, Array], start: Mapping[str, Array]) -> None:
        self._device.synchronize()  # an earlier run may still read what is overwritten here
        self._in_use = []
        for name, table in tables.items():
            pinned, memory = self._table(name, table)
            np.copyto(pinned, table)
            self._device.upload(memory, pinned)
            self._in_use.append((self._memory[name], memory, table.nbytes // len(table)))
        for name in self._layout.carried:
            if name in start:
                pinned = self._staged(name)
                np.copyto(pinned, start[name])
                self._device.upload(self._memory[name], pinned)
            else:
                self._device.fill_zero(self._memory[name])

    def _step(self, index: int, rows: int) -> None:
        for target, table, bytes_ in self._in_use:
            self._device.copy(target, table, bytes_, offset=index * bytes_)
        if rows not in self._steps:
            self._steps[rows] = self._bind(rows)
        step = self._steps[rows]
        step(lambda: self._work(step.execution))

    def _read(self, name: str) -> Array:
        pinned = self._staged(name)
        self._device.download(pinned, self._memory[name])
        self._device.synchronize()
        return pinned.copy()

    def _bind(self, rows: int) -> Repeated:
        """The work of one step with the first `rows` rows."""
        shapes = {
            name: (rows, *shape[1:]) if name in self._layout.rows else shape for name, shape in self._shapes.items()
        }
        execution = self._make_execution(shapes)
        execution.set_addresses(self._memory)
        return Repeated(self._owner, execution)

    def _work(self, execution: Execution) -> None:
        execution.enqueue()
        for given, made in self._layout.carried.items():
            self._device.copy(self._memory[given], self._memory[made], self._memory[made].bytes)

    def _table(self, name: str, table: Array) -> tuple[Array, Memory]:
        """Room for a table on both sides, kept for the next one of as many steps."""
        kept = self._tables.get(name)
        if kept is None or kept[0].shape != table.shape:
            self._tables[name] = kept = (
                self._device.pinned(table.shape, table.dtype),
                self._device.allocate(table.nbytes),
            )
        return kept

    def _staged(self, name: str) -> Array:
        if name not in self._staging:
            self._staging[name] = self._device.pinned(self._shapes[name], self._dtypes[name])
        return self._staging[name]
