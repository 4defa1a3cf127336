"""What the runtime asks of a backend: open a component, bind arrays to it once, run it many times.

Must not import a backend.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import BackendError
from pixrt.spec import ComponentSpec, TensorSpec

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


class BoundCall(Protocol):
    """A network tied to fixed arrays: it reads the inputs and writes the outputs."""

    def __call__(self) -> None:
        """Run once. Raises BackendError when the backend fails."""


class Engine(Protocol):
    """One opened network."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the inputs."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the outputs."""

    def bind(self, tensors: Mapping[str, Array]) -> BoundCall:
        """Tie every input and output, by name, to a C-contiguous array that the caller keeps alive and refills.

        Raises BackendError for a missing or unknown name, a wrong dtype or a shape the network does not take.
        """

    def close(self) -> None:
        """Free the network; bound calls must not be used afterwards."""


class Backend(Protocol):
    """A way of running networks on some device."""

    @property
    def name(self) -> str:
        """The name the user chose it by."""

    def open(self, path: Path, spec: ComponentSpec, weights: Iterable[NewWeight] = ()) -> Engine:
        """Open the ONNX file of a component, with some of its weights replaced. Raises BackendError."""


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
