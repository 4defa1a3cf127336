"""What the runtime asks of a backend: open a component, bind arrays to it once, run it many times.

Must not import a backend.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixrt.spec import TensorSpec

Array = NDArray[Any]


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


def dtype_of(spec: TensorSpec) -> np.dtype[Any]:
    """The NumPy dtype of a tensor."""
    return np.dtype(spec.dtype)
