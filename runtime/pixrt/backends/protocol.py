"""What the runtime asks of a backend: open a component, bind arrays to it once, run it many times.

`Backend` and `Engine` are required. What only some can do are protocols of their own, asked for by `isinstance`:
`CanRefit` and `CanLoop` of an engine; `OpensAside`, `HasShapes`, `HasPlans` and `TellsMemory` of a backend. Must not
import a backend.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pixrt.bundles.engine_spec import SizeRange
from pixrt.bundles.manifest import Component, ComponentSpec, TensorSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class NewWeight:
    """Values that take an initializer's place when a component is opened.

    `values` has the initializer's shape and dtype and is C-contiguous; the old values stand in `file` from `offset` on.
    """

    initializer: str
    file: str
    offset: int
    values: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLayout:
    """What a loop is told of a network's tensors. All but those in `rows` have the slots as their first axis, or none.

    Attributes:
        carried: inputs, by name, and the outputs that they take their next value from.
        rows: the tensors whose first axis is rows, of which a step may run the first few only.
        table: an input `[slots, T, ...]` with a row for each step of each slot, and
        index: the input `[slots]` that picks them, counted over all slots: slot * T + at.
        streamed: inputs of which a slot has a row of its own for every step.
    """

    carried: Mapping[str, str]
    rows: frozenset[str]
    table: str
    index: str
    streamed: frozenset[str]


class BoundCall(Protocol):
    """A network tied to fixed arrays: it reads the inputs and writes the outputs."""

    def __call__(self, rows: int | None = None) -> None:
        """Run once, and wait for the outputs; with `rows` on the first ones of every tensor only.

        Raises BackendError when the backend fails.
        """

    def hold(self, name: str, row: int, values: Array) -> None:
        """Set the held part of one row of an input; it stays until it is set again, whatever number of rows runs.

        `values` must not change as long as they exist: a backend may keep a copy on its device.
        """


class BoundLoop(Protocol):
    """A network tied to its own outputs: what it writes at one step it reads at the next, wherever that is kept.

    It has slots, which begin and go on independently of each other.
    """

    def hold(self, name: str, row: int, values: Array) -> None:
        """Set one row of an input that the steps do not change, as `BoundCall.hold`."""

    def load(self, slot: int, given: Mapping[str, Array], streams: Mapping[str, Array]) -> None:
        """Begin a slot: its row of inputs, and its rows of what is streamed, `[N, ...]`, one for every step.

        Of a table less may be given, its first rows: those behind them stay. What is carried and not given begins as
        zeros. Other slots are not touched.
        """

    def step(self, at: Sequence[int], rows: int) -> None:
        """Run one step, of every slot the one that `at` says, with the first `rows` rows. May return early."""

    def read(self, name: str, slot: int) -> Array:
        """A copy of a slot's row of an output of the last step. Waits for it. Raises BackendError if it failed."""

    def wait(self) -> None:
        """Return when the last step has run. Raises BackendError if it failed."""


class Engine(Protocol):
    """One opened network."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the inputs."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the outputs."""

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        """An array of zeros to bind, in the memory from which this engine's device copies fastest."""

    def bind(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None = None) -> BoundCall:
        """Tie every input and output, by name, to a C-contiguous array that the caller keeps alive and refills.

        `held` names inputs of which a part stays the same over many runs: from which index of axis 1 on. That part is
        written through `BoundCall.hold` alone. Raises BackendError for a missing or unknown name, a wrong dtype or a
        shape the network does not take.
        """

    def close(self) -> None:
        """Free the network; bound calls must not be used afterwards."""


@runtime_checkable
class CanLoop(Protocol):
    """An engine that keeps what its steps carry where it runs; for others there is `host.HostLoop`."""

    def bind_loop(self, shapes: Mapping[str, tuple[int, ...]], layout: LoopLayout) -> BoundLoop:
        """Tie the network to itself; `shapes` are those of every input and output, with all rows.

        Raises BackendError as `Engine.bind`.
        """


@runtime_checkable
class CanRefit(Protocol):
    """An engine that can take other weights while it is open; others are opened anew with them."""

    def refit(self, weights: Iterable[NewWeight]) -> bool:
        """Use these weights in place of the network's own, and no others; False where it must be opened anew for that.

        What is bound stays bound. Raises BackendError where the network cannot take other weights at all.
        """


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """Device memory of an open engine, in bytes.

    `weights_bytes` is what the device lost while the engine was opened, `scratch_bytes` the most that its runs need of
    the block that all engines share, `array_bytes` the inputs and outputs of its bound calls.
    """

    name: str
    weights_bytes: int
    scratch_bytes: int
    array_bytes: int


class Backend(Protocol):
    """A way of running networks on some device."""

    @property
    def name(self) -> str:
        """The name the user chose it by."""

    @property
    def prefers_fused_step(self) -> bool:
        """Whether a bundle's fused step is to be used where it has one: it pays where the host is far away."""

    def describe(self) -> str:
        """With what it runs: library, version, device."""

    def problem(self, bundle: Bundle, component: Component, *, refit: bool = False) -> str | None:
        """Why a component of a bundle cannot be run, as far as that can be told without opening it; or None.

        `refit`: with other weights than its own.
        """

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> Engine:
        """Open a component of a bundle, with some of its weights replaced. Raises BackendError."""

    def close(self) -> None:
        """Give back what the backend itself holds, after its engines were closed."""


@runtime_checkable
class OpensAside(Protocol):
    """A backend that may open a network in another thread while one that is open runs."""

    @property
    def opens_aside(self) -> bool:
        """Whether it does, with what it was opened with."""


@runtime_checkable
class HasShapes(Protocol):
    """A backend whose engines were built for some shapes; others take every shape."""

    def shapes(
        self, bundle: Bundle, component: Component, *, refit: bool = False, tensor: str | None = None
    ) -> tuple[SizeRange, ...]:
        """The shapes of an input that a component takes here; none if it has no engine, either.

        `refit`: with other weights than its own. `tensor` names the input, the first one if it is None; an engine has
        the same place in the answers for all of them.
        """


@runtime_checkable
class HasPlans(Protocol):
    """A backend that reads files of its own from a bundle, each when a shape first needs it."""

    def check_plans(self, bundle: Bundle) -> None:
        """See that what the bundle's networks need is there, unread. Raises BackendError for a missing or cut file."""


@runtime_checkable
class TellsMemory(Protocol):
    """A backend that can tell what its engines take of a device's memory; others use the host's."""

    def memory(self) -> tuple[EngineMemory, ...]:
        """Device memory of the engines that are open."""


def check_binding(spec: ComponentSpec, tensors: Mapping[str, Array]) -> None:
    """Hold arrays against a component's tensor table; a named dimension must be the same wherever it stands.

    Raises BackendError naming the tensor, what it is and what it must be.
    """
    table = {tensor.name: tensor for tensor in (*spec.inputs, *spec.outputs)}
    if tensors.keys() != table.keys():
        odd = sorted(tensors.keys() ^ table.keys())
        raise _mismatch(spec.file, f"the tensors {', '.join(odd)} are missing or unknown", f"{', '.join(table)}")
    sizes: dict[str, int] = {}
    for name, tensor in table.items():
        array = tensors[name]
        wanted = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in tensor.shape)
        fits = len(array.shape) == len(wanted) and all(
            isinstance(size, str) or size == given for size, given in zip(wanted, array.shape, strict=True)
        )
        if array.dtype != np.dtype(tensor.dtype) or not fits or not array.flags.c_contiguous:
            layout = "" if array.flags.c_contiguous else ", not contiguous"
            raise _mismatch(
                spec.file, f"{name} is {array.dtype} {list(array.shape)}{layout}", f"{tensor.dtype} {list(wanted)}"
            )
        sizes.update({size: given for size, given in zip(wanted, array.shape, strict=True) if isinstance(size, str)})


def _mismatch(file: str, given: str, wanted: str) -> BackendError:
    return BackendError(f"cannot bind {file}: {given}", remedy=f"It takes {wanted}")
