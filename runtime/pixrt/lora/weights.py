"""Where a bundle's layers have their weights: which ONNX initializer, and at which byte of which file.

Traced linear layers have transposed weights under names like `onnx::MatMul_2642`, so the export writes a table,
`weights.json`: component, parameter name, `WeightPlace`. Must not import a backend.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pixrt.backends.protocol import Array
from pixrt.bundles.decoding import decode
from pixrt.bundles.store import Bundle
from pixrt.errors import BundleError
from pixrt.reading import read_json

WEIGHTS_NAME = "weights.json"
_MOST_RANK = 8


@dataclass(frozen=True, slots=True)
class WeightPlace:
    """One layer's weight in the graph: `shape` and `dtype` are the initializer's, raw and little-endian at `offset`.

    `transposed`: the initializer is `[in, out]`, and PyTorch's parameter `[out, in]`.
    """

    initializer: str
    transposed: bool
    dtype: Literal["float32", "float16"]
    shape: tuple[int, ...]
    file: str
    offset: int

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape as PyTorch has it."""
        return self.shape[::-1] if self.transposed else self.shape

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


WeightTable = dict[str, dict[str, WeightPlace]]


def to_json(table: Mapping[str, Mapping[str, WeightPlace]]) -> str:
    """The table as JSON text, the form `read_table` reads."""
    plain = {name: {key: asdict(place) for key, place in places.items()} for name, places in table.items()}
    return json.dumps(plain, separators=(",", ":")) + "\n"


def read_table(bundle: Bundle) -> WeightTable:
    """The bundle's table. Raises BundleError if there is none, or it does not fit the bundle's files."""
    files, where = bundle.manifest.files, str(bundle.folder / WEIGHTS_NAME)
    if WEIGHTS_NAME not in files:
        raise BundleError(
            f"the bundle {bundle.manifest.name!r} has no {WEIGHTS_NAME}, which says where its layers' weights are",
            remedy="Export the checkpoint again with this version's `pixrt export`",
        )

    def refuse(problem: str) -> BundleError:
        return BundleError(problem, remedy="Export the checkpoint again with `pixrt export`")

    value = read_json(bundle.folder / WEIGHTS_NAME, refuse=refuse)
    bundle.require_unchanged(WEIGHTS_NAME)
    table: WeightTable = decode(dict[str, dict[str, WeightPlace]], value, where, "")
    for component, places in table.items():
        for name, place in places.items():
            size = files[place.file].bytes if place.file in files else 0
            if len(place.shape) > _MOST_RANK or not all(0 < n <= size for n in place.shape):
                raise BundleError(
                    f"{where}: {name:.100} of {component:.100} has the shape {list(place.shape)!r:.80}",
                    remedy="Export the checkpoint again with `pixrt export`",
                )
            if component not in bundle.manifest.components or not 0 <= place.offset <= size - place.nbytes:
                raise BundleError(
                    f"{where}: {name} of {component} stands outside the bundle's files",
                    remedy="Export the checkpoint again with `pixrt export`",
                )
    return table


def read_weight(folder: Path, place: WeightPlace) -> Array:
    """A weight as it stands in the bundle, in PyTorch's layout; a view of the file. Raises BundleError."""
    try:
        stored = np.memmap(folder / place.file, np.dtype(place.dtype).newbyteorder("<"), "r", place.offset, place.shape)
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder / place.file} cannot be read: {error}", remedy="Export again") from error
    return stored.T if place.transposed else stored


def to_graph(place: WeightPlace, weight: Array) -> Array:
    """A weight in PyTorch's layout as the initializer's values: transposed back, rounded to its dtype, contiguous."""
    with np.errstate(over="ignore"):  # the caller looks for what became infinite
        return np.ascontiguousarray(weight.T if place.transposed else weight, place.dtype)
