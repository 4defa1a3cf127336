"""LoRA files (Hu et al. 2021, arXiv:2106.09685): read, fitted to a model's layers, merged into its weights.

A layer's weight becomes `W + sum(scale * alpha / r * up @ down)`; export and runtime merge with the same function.
Files are diffusers' and peft's, those of diffusers' earlier formats, and kohya-ss's. One is applied whole or refused.
Must not import a backend.
"""

import math
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import LoraSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import LoraError
from pixrt.lora.keys import Pair, Shapes, pairs_of
from pixrt.lora.safetensors import MalformedTensors, TensorFile
from pixrt.lora.weights import WeightPlace, read_weight, to_graph
from pixrt.reading import open_regular

LoraInput = str | os.PathLike[str] | tuple[str | os.PathLike[str], float]
"""A LoRA file, or the file and its scale (1 if it is not given)."""

MAX_LORAS = 8  # their names go into the picture's metadata
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # PyTorch's zip, and bare pickles


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """What one LoRA adds to one layer: `scale * up @ down`, `up` `[out, r]` and `down` `[r, n]` in float64."""

    up: NDArray[np.float64]
    down: NDArray[np.float64]
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class LoraSet:
    """Several LoRAs, fitted to a model: which they are, and what they add, by component and parameter name."""

    specs: tuple[LoraSpec, ...]
    factors: Mapping[str, Mapping[str, Sequence[Factor]]]
    touches: Mapping[str, tuple[LoraSpec, ...]]

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
    factors: dict[str, dict[str, list[Factor]]] = {}
    touches: dict[str, tuple[LoraSpec, ...]] = {}
    for item in given:
        path, scale = _path_and_scale(item)
        pairs, sha256 = _read(path, shapes, target)
        name = path.name.encode(errors="replace").decode()  # it goes into metadata, which is Unicode
        spec = LoraSpec(name, sha256, scale)
        specs.append(spec)
        for component, parameter, pair in pairs:
            factor = Factor(_matrix(pair.up), _matrix(pair.down), scale * pair.scale)
            factors.setdefault(component, {}).setdefault(parameter, []).append(factor)
        touches |= {component: (*touches.get(component, ()), spec) for component in {found[0] for found in pairs}}
    return LoraSet(tuple(specs), factors, touches)


def merge(parameter: str, weight: Array, factors: Sequence[Factor]) -> NDArray[np.float32]:
    """The layer's weight with LoRAs in it, in PyTorch's layout: summed in float64, rounded once.

    Linear: `[out, in]`; convolution: `[out, in, kh, kw]`, whose rank-r form is a kernel to r channels, then a 1x1 one.
    Raises LoraError if a value is no longer finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total = weight.astype(np.float64)
        for factor in factors:
            total += factor.scale * (factor.up @ factor.down).reshape(total.shape)
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


def _read(path: Path, shapes: Shapes, target: str) -> tuple[list[tuple[str, str, Pair]], str]:
    """The file's layers, as (component, parameter name, weights), and its SHA-256."""

    def refuse(problem: str) -> LoraError:
        return LoraError(f"the LoRA cannot be read: {problem}", remedy="Check the path")

    try:
        with open_regular(path, refuse) as opened:
            start = opened.read(9)
        # A safetensors file begins with the length of its header, which may look like anything, and a brace.
        if path.suffix.lower() in _PICKLES or (start.startswith(_PICKLE_STARTS) and start[8:] != b"{"):
            raise LoraError(
                f"{path} is a pickle, which can run any program when it is loaded, so it is not loaded",
                remedy="Convert it to safetensors where it came from",
            )
        file = TensorFile(path)
        if not any("lora" in name.lower() for name in file.names):  # a whole checkpoint is not read for that
            raise LoraError(f"{path} is not a LoRA: none of its {len(file.names)} tensors is a LoRA's", remedy=_SAVE)
        tensors, sha256 = file.read()
    except MalformedTensors as error:
        raise LoraError(f"{path} is not a safetensors file: {error}", remedy=_SAVE) from error
    except OSError as error:
        raise LoraError(f"the LoRA {path} cannot be read: {error.strerror}", remedy="Check the disk") from error
    return pairs_of(path.name, tensors, file.metadata, shapes, target), sha256


_SAVE = "Give the file that diffusers' save_lora_weights wrote, pytorch_lora_weights.safetensors"


def _path_and_scale(item: LoraInput) -> tuple[Path, float]:
    path, scale = item if isinstance(item, tuple) and len(item) == 2 else (item, 1.0)
    if not isinstance(path, str | os.PathLike):
        raise LoraError(f"a LoRA is {item!r:.80}", remedy="Give a file, or a pair of a file and a scale")
    if isinstance(scale, bool) or not isinstance(scale, numbers.Real) or not math.isfinite(scale):
        raise LoraError(f"the scale of the LoRA {os.fspath(path)} is {scale!r:.60}", remedy="Give a finite number")
    return Path(path), float(scale)


def _matrix(values: Array) -> NDArray[np.float64]:
    return values.reshape(values.shape[0], -1).astype(np.float64)


def _require_finite(parameter: str, values: Array) -> Array:
    if not np.isfinite(values).all():
        raise LoraError(
            f"with the LoRAs the weight {parameter} leaves the range of {values.dtype}",
            remedy="Use smaller scales, or a bundle exported with --precision fp32",
        )
    return values
