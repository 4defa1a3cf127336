"""Bound calls and loops on a CUDA device: which bytes travel when, and what is captured into a graph.

Everything here runs in the device's thread, the public methods of the calls excepted, which go there. Memory of a call
is allocated and its addresses are set once, when it is made. Which library runs the network an `Execution` knows; must
not import one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from pixrt.backends.cuda.device import Device, Memory
from pixrt.backends.cuda.held import HeldArrays
from pixrt.backends.protocol import Array, LoopLayout
from pixrt.bundles.manifest import ComponentSpec
from pixrt.errors import BackendError

Shapes = Mapping[str, Sequence[int]]


class Execution(Protocol):
    """A network on the device's stream, for one set of shapes."""

    def set_addresses(self, memory: Mapping[str, Memory]) -> None:
        """Where every input and output is; once."""

    def enqueue(self) -> None:
        """Enqueue one run of the network. Raises BackendError."""

    def __call__(self, work: Callable[[], None]) -> None:
        """Enqueue `work`, which enqueues this among copies, and is the same at every call: it may be captured.

        It is not kept: it refers to what holds this.
        """


class OnDevice(Protocol):
    """What calls and loops use of the device that they run on."""

    @property
    def device(self) -> Device:
        """It."""

    @property
    def held(self) -> HeldArrays:
        """Copies of arrays that do not change."""


class DeviceCall:
    """A bound call: what is not held travels to the device, the network runs, the outputs travel back.

    Each number of rows is an execution of its own over the first rows of the same memory, made when first asked for.
    """

    def __init__(
        self,
        owner: OnDevice,
        spec: ComponentSpec,
        make_execution: Callable[[Shapes], Execution],
        tensors: Mapping[str, Array],
        held: Mapping[str, int],
    ) -> None:
        self._device = device = owner.device
        self._owner = owner
        self._make_execution = make_execution
        self._held = dict(held)
        self._tensors = dict(tensors)
        self._outputs = {tensor.name for tensor in spec.outputs}
        # An array in ordinary memory goes by way of a pinned one, for only those are copied while others work.
        self._arrays = {
            name: array if device.is_pinned(array) else device.pinned(array.shape, array.dtype)
            for name, array in tensors.items()
        }
        self._memory = {name: device.allocate(array.nbytes) for name, array in tensors.items()}
        self._runs: dict[int | None, _RowsRun] = {}

    def __call__(self, rows: int | None = None) -> None:
        """See `BoundCall`."""
        if rows not in self._runs:
            self._runs[rows] = self._device.run(self._prepare, rows)
        run = self._runs[rows]
        for pinned, array in run.before:
            np.copyto(pinned, array)
        self._device.run(self._run, run)
        for array, pinned in run.after:
            np.copyto(array, pinned)

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundCall.hold`."""
        self._device.run(self._hold, name, row, values)

    def _prepare(self, rows: int | None) -> "_RowsRun":
        held, memory, device = self._held, self._memory, self._device
        arrays = {name: array[:rows] for name, array in self._arrays.items()}
        execution = self._make_execution({name: array.shape for name, array in arrays.items()})
        execution.set_addresses(memory)
        staged = [name for name, array in self._tensors.items() if self._arrays[name] is not array]
        sent = [name for name in self._tensors if name not in self._outputs and held.get(name) != 0]
        return _RowsRun(
            execution=execution,
            before=[(arrays[name], self._tensors[name][:rows]) for name in staged if name in sent],
            after=[(self._tensors[name][:rows], arrays[name]) for name in staged if name in self._outputs],
            uploads=[self._upload(memory[name], arrays[name], held.get(name)) for name in sent],
            downloads=[partial(device.download, arrays[name], memory[name]) for name in sorted(self._outputs)],
        )

    def _run(self, run: "_RowsRun") -> None:
        run.execution(run.work)
        self._device.synchronize()

    def _upload(self, memory: Memory, array: Array, held: int | None) -> Callable[[], None]:
        """The upload of an input, or of the part of it before what is held."""
        device = self._device
        if held is None:
            return lambda: device.upload(memory, array)
        rows, size = array.shape[:2]
        return device.strided_upload(memory, array, array.nbytes // (rows * size) * held)

    def _hold(self, name: str, row: int, values: Array) -> None:
        shape = self._tensors[name].shape
        rows, size = shape[:2]
        row_bytes = self._memory[name].bytes // rows
        offset = row * row_bytes + row_bytes // size * self._held[name]
        copy = self._owner.held.get(values, self._tensors[name].dtype)
        if copy.bytes != (row + 1) * row_bytes - offset:
            raise BackendError(f"{list(values.shape)} is held in {name} of {list(shape)}", remedy="Report this error")
        self._device.copy(self._memory[name], copy, copy.bytes, target_offset=offset)


@dataclass(frozen=True, slots=True)
class _RowsRun:
    """A call's work for one number of rows: arrays by way of pinned ones, uploads, the network, downloads."""

    execution: Execution
    before: list[tuple[Array, Array]]
    after: list[tuple[Array, Array]]
    uploads: list[Callable[[], None]]
    downloads: list[Callable[[], None]]

    def work(self) -> None:
        """Enqueue all of it."""
        for upload in self.uploads:
            upload()
        self.execution.enqueue()
        for download in self.downloads:
            download()


class DeviceLoop:
    """A bound loop: tables, noise and start values are uploaded when a slot begins; steps send only which rows to take.

    A slot's memory stays where it is, so a graph that was captured stays valid, whichever slots begin and end.
    """

    def __init__(
        self,
        owner: OnDevice,
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
        self._memory = {}
        for name, dtype in self._dtypes.items():
            self._memory[name] = device.allocate(int(np.prod(self._shapes[name])) * dtype.itemsize)
        for tensor in spec.inputs:
            device.fill_zero(self._memory[tensor.name])
        self._table_rows = self._shapes[layout.table][1]
        self._streams: dict[tuple[int, str], _Stream] = {}
        self._in_use: dict[int, list[_Stream]] = {}
        self._staging: dict[str, Array] = {}
        self._steps: dict[int, Execution] = {}

    def hold(self, name: str, row: int, values: Array) -> None:
        """See `BoundLoop.hold`."""
        self._device.run(self._hold, name, row, values)

    def load(self, slot: int, given: Mapping[str, Array], streams: Mapping[str, Array]) -> None:
        """See `BoundLoop.load`."""
        self._device.run(self._load, slot, given, streams)

    def step(self, at: Sequence[int], rows: int) -> None:
        """See `BoundLoop.step`."""
        self._device.run(self._step, at, rows)

    def read(self, name: str, slot: int) -> Array:
        """See `BoundLoop.read`."""
        return self._device.run(self._read, name, slot)

    def wait(self) -> None:
        """See `BoundLoop.wait`."""
        self._device.run(self._device.synchronize)

    def _hold(self, name: str, row: int, values: Array) -> None:
        copy = self._owner.held.get(values, self._dtypes[name])
        self._device.copy(self._memory[name], copy, copy.bytes, target_offset=row * copy.bytes)

    def _load(self, slot: int, given: Mapping[str, Array], streams: Mapping[str, Array]) -> None:
        device = self._device
        device.synchronize()  # an earlier upload or step may still read what is overwritten here
        for name in self._layout.carried:
            if name not in given:
                bytes_ = self._slot_bytes(name)
                device.fill_zero(self._memory[name], offset=slot * bytes_, bytes_=bytes_)
        for name, values in given.items():
            pinned = self._staged(name)[: len(values)]
            np.copyto(pinned, values)
            device.upload(self._memory[name], pinned, offset=slot * self._slot_bytes(name))
        self._in_use[slot] = [self._stream(slot, name, values) for name, values in streams.items()]

    def _step(self, at: Sequence[int], rows: int) -> None:
        device, index = self._device, self._memory[self._layout.index]
        for slot, row in enumerate(at):
            device.fill_word(index, slot, slot * self._table_rows + row)
            for stream in self._in_use.get(slot, ()):
                if row < stream.rows:
                    bytes_ = stream.memory.bytes // stream.room
                    device.copy(self._memory[stream.name], stream.memory, bytes_, slot * bytes_, offset=row * bytes_)
        if rows not in self._steps:
            self._steps[rows] = self._bind(rows)
        step = self._steps[rows]
        step(lambda: self._work(step))

    def _read(self, name: str, slot: int) -> Array:
        pinned = self._staged(name)
        self._device.download(pinned, self._memory[name], offset=slot * pinned.nbytes)
        self._device.synchronize()
        return pinned.copy()

    def _bind(self, rows: int) -> Execution:
        """The work of one step with the first `rows` rows."""
        shapes = {
            name: (rows, *shape[1:]) if name in self._layout.rows else shape for name, shape in self._shapes.items()
        }
        execution = self._make_execution(shapes)
        execution.set_addresses(self._memory)
        return execution

    def _work(self, execution: Execution) -> None:
        execution.enqueue()
        for given, made in self._layout.carried.items():
            self._device.copy(self._memory[given], self._memory[made], self._memory[made].bytes)

    def _stream(self, slot: int, name: str, values: Array) -> "_Stream":
        """A slot's rows of a streamed input, uploaded; room for them on both sides is kept for the next picture."""
        kept = self._streams.get((slot, name))
        if kept is None or kept.room < len(values):
            pinned, memory = self._device.pinned(values.shape, values.dtype), self._device.allocate(values.nbytes)
            kept = _Stream(name, len(values), pinned, memory)
        self._streams[slot, name] = stream = replace(kept, rows=len(values))
        np.copyto(stream.pinned[: len(values)], values)
        self._device.upload(stream.memory, stream.pinned[: len(values)])
        return stream

    def _staged(self, name: str) -> Array:
        """Pinned room for one slot's row of a tensor."""
        if name not in self._staging:
            self._staging[name] = self._device.pinned(self._shapes[name][1:], self._dtypes[name])
        return self._staging[name]

    def _slot_bytes(self, name: str) -> int:
        return self._memory[name].bytes // self._shapes[name][0]


@dataclass(frozen=True, slots=True)
class _Stream:
    """A slot's rows of one streamed input on both sides; `rows` of the room for `len(pinned)` are in use."""

    name: str
    rows: int
    pinned: Array
    memory: Memory

    @property
    def room(self) -> int:
        """How many rows there is memory for."""
        return len(self.pinned)
