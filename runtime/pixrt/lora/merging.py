"""LoRAs (Hu et al. 2021, arXiv:2106.09685) fitted to a model's layers and merged into its weights.

A layer's weight becomes `W + sum(scale * alpha / r * change)`, the change of a plain LoRA being `up @ down`; export and
runtime merge with the same function. One is applied whole or refused. Must not import a backend.
"""

import math
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import LoraSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import LoraError
from pixrt.lora.keys import LayerChange
from pixrt.lora.names import Shapes
from pixrt.lora.opening import read_lora
from pixrt.lora.weights import WeightPlace, read_weight, to_graph

File = str | os.PathLike[str]
LoraInput = File | tuple[File, float] | tuple[File, float, float]
"""A LoRA file or peft's folder; with its scale (else 1); with another scale for the text encoder."""

MAX_LORAS = 8  # their names go into the picture's metadata


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """What one LoRA adds to one layer: `scale * added.matrix()`, `[out, n]` in float64."""

    added: LayerChange
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class LoraSet:
    """Several LoRAs, fitted to a model: which they are, and what they add, by component and parameter name.

    `notes` are what a user should know of the files.
    """

    specs: tuple[LoraSpec, ...] = ()
    factors: Mapping[str, Mapping[str, Sequence[Factor]]] = field(default_factory=dict)
    touches: Mapping[str, tuple[LoraSpec, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, component: str) -> tuple[LoraSpec, ...]:
        """The LoRAs that change a component."""
        return self.touches.get(component, ())


def load_loras(given: Sequence[LoraInput], shapes: Shapes, target: str) -> LoraSet:
    """Read LoRA files and fit them to a model; `shapes` are its layers' weights as PyTorch has them, `target` its name.

    Raises LoraError for a file that is missing or no LoRA, of which a layer is not in the model or of another shape, or
    a scale that is not finite.
    """
    if isinstance(given, str | bytes) or len(given) > MAX_LORAS:
        problem = "loras is one string" if isinstance(given, str | bytes) else f"{len(given)} LoRAs are given"
        raise LoraError(problem, remedy=f"Give a list of up to {MAX_LORAS} files, or (file, scale) pairs")
    specs: list[LoraSpec] = []
    notes: list[str] = []
    factors: dict[str, dict[str, list[Factor]]] = {}
    touches: dict[str, tuple[LoraSpec, ...]] = {}
    for item in given:
        path, scale, text_scale = _path_and_scales(item)
        read = read_lora(path, shapes, target)
        spec = LoraSpec(read.name, read.sha256, scale, text_scale)
        specs.append(spec)
        notes.extend(read.notes)
        for (component, parameter), added in read.changes.items():
            factor = Factor(added, spec.scale_of(component) * added.scale)
            factors.setdefault(component, {}).setdefault(parameter, []).append(factor)
        touches |= {part: (*touches.get(part, ()), spec) for part in {component for component, _ in read.changes}}
    return LoraSet(tuple(specs), factors, touches, tuple(notes))


def merge(parameter: str, weight: Array, factors: Sequence[Factor]) -> NDArray[np.float32]:
    """The layer's weight with LoRAs in it, in PyTorch's layout: summed in float64, rounded once.

    Linear: `[out, in]`; convolution: `[out, in, kh, kw]`.
    Raises LoraError if a value is no longer finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total = weight.astype(np.float64)
        for factor in factors:
            total += factor.scale * factor.added.matrix().reshape(total.shape)
        return _require_finite(parameter, total.astype(np.float32))


def replacements(
    bundle: Bundle, places: Mapping[str, WeightPlace], factors: Mapping[str, Sequence[Factor]]
) -> Iterator[NewWeight]:
    """The weights of one component with LoRAs in them, one at a time, for a backend to open it with.

    The base is what the bundle holds: in an FP16 one, rounded already. Raises LoraError if a sum leaves its range,
    BundleAltered if the bundle's files are not those that were checked.
    """
    files = {places[parameter].file for parameter in factors}
    bundle.require_unchanged(*files)
    for parameter, given in factors.items():
        place = places[parameter]
        values = to_graph(place, merge(parameter, read_weight(bundle.folder, place), given))
        yield NewWeight(place.initializer, place.file, place.offset, _require_finite(parameter, values))
    bundle.require_unchanged(*files)


def require_own_weights(loras: LoraSet, table: Mapping[str, Mapping[str, WeightPlace]]) -> None:
    """Raise LoraError if a LoRA changes a layer whose weight the graph shares with another layer."""
    for component, factors in loras.factors.items():
        users: dict[str, list[str]] = {}
        for parameter, place in table[component].items():
            users.setdefault(place.initializer, []).append(parameter)
        for parameter in factors:
            sharing = users[table[component][parameter].initializer]
            if len(sharing) > 1:
                raise LoraError(
                    f"the layers {' and '.join(sharing[:2])} of {component} have the same weight, once in the bundle",
                    remedy="Merge the LoRA at export: `pixrt export --lora`",
                )


def _path_and_scales(item: LoraInput) -> tuple[Path, float, float | None]:
    """The file, its scale, and that of the text encoder if it is another."""
    path, *scales = item if isinstance(item, tuple) and len(item) in (2, 3) else (item, 1.0)
    if not isinstance(path, str | os.PathLike):
        raise LoraError(f"a LoRA is {item!r:.80}", remedy="Give a file, or a pair of a file and a scale")
    for scale in scales:
        if isinstance(scale, bool) or not isinstance(scale, numbers.Real) or not math.isfinite(scale):
            raise LoraError(f"the scale of the LoRA {os.fspath(path)} is {scale!r:.60}", remedy="Give a finite number")
    first, last = float(scales[0]), float(scales[-1])
    return Path(path), first, last if last != first else None


def _require_finite(parameter: str, values: Array) -> Array:
    if not np.isfinite(values).all():
        raise LoraError(
            f"with the LoRAs the weight {parameter} leaves the range of {values.dtype}",
            remedy="Use smaller scales, or a bundle exported with --precision fp32",
        )
    return values
