"""One input or output of a network, as manifests say it. Must not import numpy or anything of pixrt but errors."""

from dataclasses import dataclass
from typing import Literal

from pixrt.errors import BundleError


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a network. A dimension is a number, or a name if it is free."""

    name: str
    dtype: Literal["float32", "float16", "int64", "int32"]
    shape: tuple[int | str, ...]

    def fixed(self, axis: int) -> int:
        """A dimension that must be a number, such as the channels. Raises BundleError if it is free."""
        size = self.shape[axis]
        if isinstance(size, str):
            raise BundleError(
                f"dimension {axis} of the tensor {self.name} is free ({size}), where a number is needed",
                remedy="Export the checkpoint again with `pixrt export`",
            )
        return size
