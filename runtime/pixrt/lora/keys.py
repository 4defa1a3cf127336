"""The tensors of a LoRA file as changes of a model's layers: which layer each is of, and its scale.

    LAYER.lora_A.weight, LAYER.lora_A.ADAPTER.weight        peft, and diffusers from 0.22
    LAYER.lora.down.weight, LAYER_lora.down.weight          diffusers before
    LAYER.lora_linear_layer.down.weight                     diffusers 0.20
    LAYER.lora_down.weight, .lora_mid.weight                kohya-ss, LyCORIS, ComfyUI, OneTrainer
    LAYER.hada_w1_a, LAYER.lokr_w1                          LyCORIS and peft

`up` (or `lora_B`) goes with each `down`, and an `.alpha` may. peft's configuration rules if it is there; a layer
without an alpha has the scale 1, as kohya-ss and ComfyUI have it. Must not import anything of pixrt but errors, reading
and the manifest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.bundles.manifest import Component
from pixrt.errors import LoraError
from pixrt.lora.forms import Change, Matrix, change_of, missing_of
from pixrt.lora.names import PEFT, Layers, Place, Shapes, made_for, names_component
from pixrt.lora.scales import CONFIG, METADATA_KEY, configured_scale, parse_config, section

Tensor = NDArray[Any]

_KEY = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?P<part>A|down|B|up|mid)(?:\.(?P<adapter>[^.]+))?\.weight"
    r"|[._]lora(?:_linear_layer)?\.(?P<old_part>down|up)\.weight"
    r"|\.(?P<factor>hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))(?:\.(?P<other_adapter>[^.]+))?"
    r"|(?:[._]lora)?\.(?P<alpha>alpha)"
    r")"
)
_ROLES = {"A": "down", "B": "up"}
_EMBEDDING = "bundle_emb."
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_embedding": "a LoRA of embeddings",
    "lora_B.bias": "a LoRA with biases",
    ".diff": "full weights",
    ".oft_": "OFT",
    "a1.weight": "GLoRA",
    "on_input": "(IA)^3",
}
_CONV_IN = (Component.UNET, "conv_in.weight")
_MISFIT = "It was probably made for {}: use a LoRA for the checkpoint's own"


@dataclass(frozen=True, slots=True, eq=False)
class LayerChange:
    """What a file adds to one layer: the change, and its scale as the file says it."""

    change: Change
    scale: float
    shape: tuple[int, ...]

    def matrix(self) -> Matrix:
        """The change at scale 1, `[out, n]` as the layer has it."""
        matrix = self.change.matrix()
        missing = prod(self.shape[1:]) - matrix.shape[1]
        # A text-to-image network's first layer: the channels that it does not have are not changed.
        return np.pad(matrix, ((0, 0), (0, missing))) if missing else matrix


@dataclass(frozen=True, slots=True, eq=False)
class LoraFile:
    """A file that has been read: its changes by place, and what a user should know of it."""

    changes: Mapping[Place, LayerChange]
    notes: tuple[str, ...]


Found = dict[Place, dict[str, Tensor]]
"""The tensors of each layer, by role."""


def changes_of(
    file: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], config: str, shapes: Shapes, target: str
) -> LoraFile:
    """The layers of a file. `config` is the text of peft's configuration beside it, "" for none.

    `file` and `target`, the model's name, are for errors. Raises LoraError for whatever is left over or does not fit.
    """
    notes = []
    embeddings = {name.split(".")[1] for name in tensors if name.startswith(_EMBEDDING)}
    if embeddings:
        notes.append(f"{file} brings embeddings, which are left out: {', '.join(sorted(embeddings))[:80]}")
    names = [name for name in tensors if not name.startswith(_EMBEDDING)]
    found = _group(file, tensors, names, Layers(shapes), target)
    within = "" if config else metadata.get(METADATA_KEY, "")
    if not (config or within) and any(PEFT in name for name in names):
        notes.append(f"{file} has no {CONFIG} beside it, which says its scale: taken as 1")
    said = parse_config(file, config or within or "{}")
    named = bool(within) and any(map(names_component, names))
    changes = {}
    for (component, parameter), parts in found.items():
        change = _checked(file, (component, parameter), parts, shapes)
        about = section(said, component, named=named)
        scale = _scale(file, parameter, parts, change, about)
        changes[component, parameter] = LayerChange(change, scale, shapes[component][parameter])
    return LoraFile(changes, tuple(notes))


def _group(file: str, tensors: Mapping[str, Tensor], names: list[str], layers: Layers, target: str) -> Found:
    found: dict[Place, dict[str, str]] = {}
    unknown: list[str] = []
    adapters: set[str] = set()
    for name in names:
        match = _KEY.fullmatch(name)
        if match is None:
            kind = next((kind for part, kind in _OTHER_KINDS.items() if part in name), "no LoRA's")
            raise LoraError(
                f"{file} holds {name!r:.120}, which is {kind}", remedy="Use a LoRA, LoHa or LoKr of layers' weights"
            )
        adapters |= {match["adapter"] or match["other_adapter"] or ""}
        place = layers.find(match["layer"])
        if place is None:
            unknown.append(match["layer"])
            continue
        part = match["part"] or match["old_part"] or match["factor"] or match["alpha"]
        role = _ROLES.get(part, part)
        if role in found.setdefault(place, {}) and len(adapters - {""}) <= 1:
            raise LoraError(f"{file} has the layer {place[1]} twice", remedy="Save the LoRA again")
        found[place][role] = name
    if len(adapters - {""}) > 1:
        named = ", ".join(sorted(adapters - {""}))
        raise LoraError(f"{file} holds several adapters: {named:.80}", remedy="Save them one by one")
    if unknown:
        unknown = list(dict.fromkeys(unknown))
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise LoraError(
            f"{file} has layers that {target} does not have: {', '.join(unknown[:3]):.300}{more}, beside {len(found)}"
            " that it has",
            remedy=_MISFIT.format(made_for(unknown)),
        )
    # Not earlier: what is not the model's is never converted.
    return {place: {role: tensors[name] for role, name in parts.items()} for place, parts in found.items()}


def _checked(file: str, place: Place, parts: Mapping[str, Tensor], shapes: Shapes) -> Change:
    """The layer's change. Raises LoraError unless all of its tensors are there, fit the layer, and are finite."""
    parameter, shape = place[1], shapes[place[0]][place[1]]
    factors = {role: values for role, values in parts.items() if role != "alpha"}
    missing = missing_of(factors)
    if missing:
        raise LoraError(f"{file} has no {missing} weight for {parameter}", remedy="Get the file again, it is cut")
    change = change_of(factors)
    if change is None or not _fits(change.shape, place, shape, shapes):
        told = " and ".join(str(list(factors[role].shape)) for role in sorted(factors))
        raise LoraError(
            f"{file} has the weights {told} for {parameter}, which is {list(shape)}",
            remedy=_MISFIT.format("another architecture"),
        )
    if any(values.dtype.kind != "f" for values in factors.values()):
        types = " and ".join(sorted({str(values.dtype) for values in factors.values()}))
        raise LoraError(
            f"{file} has weights of the types {types} for {parameter}, which are no fractions",
            remedy="Save it again in FP32, FP16 or BF16: its numbers have a meaning only to who packed them",
        )
    if not all(np.isfinite(values).all() for values in parts.values()):
        raise LoraError(f"{file} holds values that are not finite for {parameter}", remedy="Get the file again")
    return change


def _fits(made: tuple[int, int], place: Place, shape: tuple[int, ...], shapes: Shapes) -> bool:
    """Whether a change `[out, n]` is one of a layer; a first layer may see more than a text-to-image network's."""
    if made == (shape[0], prod(shape[1:])):
        return True
    conv_out = shapes[Component.UNET].get("conv_out.weight")
    return place == _CONV_IN and conv_out is not None and made == (shape[0], conv_out[0] * prod(shape[2:]))


def _scale(file: str, parameter: str, parts: Mapping[str, Tensor], change: Change, config: Mapping[str, Any]) -> float:
    if config:
        return configured_scale(file, config, parameter.removesuffix(".weight"), change.rank)
    alpha = parts.get("alpha")
    if alpha is None or not change.rank:
        return 1.0
    if alpha.size != 1:
        raise LoraError(f"{file} has an alpha that is more than one number", remedy="Save the LoRA again")
    return float(alpha.item()) / change.rank
