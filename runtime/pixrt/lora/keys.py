"""The names inside a LoRA file: which layer each tensor belongs to, and the scale that the file itself says.

    unet.down_blocks.0.(...).attn1.to_q.lora_A.weight                    peft, and diffusers from 0.22
    unet.down_blocks.0.(...).attn1.to_q.lora.down.weight                 diffusers 0.20
    unet.down_blocks.0.(...).attn1.processor.to_q_lora.down.weight       before; then also without `unet.`
    text_encoder.(...).self_attn.q_proj.lora_linear_layer.down.weight    diffusers 0.20
    lora_unet_down_blocks_0_(...)_attn1_to_q.lora_down.weight            kohya-ss

`up` (or `lora_B`) goes with each, and an `.alpha` may. peft's configuration, as JSON in the metadata, rules if it is
there. Must not import anything of pixrt but errors, reading and spec.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.bundles.manifest import Component
from pixrt.errors import LoraError
from pixrt.reading import Malformed, parse_json

Tensor = NDArray[Any]
Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Component, parameter name (`conv_in.weight`), shape as PyTorch has it."""

METADATA_KEY = "lora_adapter_metadata"
_KEY = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?:(?P<down>A|down)|B|up)\.weight"
    r"|[._]lora(?:_linear_layer)?\.(?:(?P<old_down>down)|up)\.weight"
    r"|(?:[._]lora)?(?P<alpha>\.alpha))"
)
_PREFIXES = {
    "unet.": Component.UNET,
    "text_encoder.": Component.TEXT_ENCODER,
    "lora_unet_": Component.UNET,
    "lora_te_": Component.TEXT_ENCODER,
    "lora_te1_": Component.TEXT_ENCODER,
}
# In old files attention layers are called the same in every network.
_OLD_NAMES = {
    Component.UNET: {"to_out": "to_out_0"},
    Component.TEXT_ENCODER: {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"},
}
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_embedding": "a LoRA of embeddings",
    "lora_B.bias": "a LoRA with biases",
    "lora_mid": "LoCon with Tucker factors",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    ".diff": "full weights",
}
_XL = ("text_encoder_2", "lora_te2_", "input_blocks", "output_blocks", "middle_block", "add_embedding")
# Methods of peft that change the weights that the LoRA is added to.
_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One layer of a LoRA: `down` `[r, in, ...]`, `up` `[out, r, ...]`, and alpha / r as the file says it."""

    down: Tensor
    up: Tensor
    scale: float


Layers = dict[tuple[str, str], dict[str, Tensor]]
"""(Component, parameter name), then the tensors of that layer by role: down, up, alpha."""

# peft's patterns: names of layers, and a few that are more than a name.
_MOST_NAMES, _MOST_PATTERNS, _LONGEST_PATTERN = 4096, 32, 200
_NAME = re.compile(r"[\w.]*")


def pairs_of(
    file: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], shapes: Shapes, target: str
) -> list[tuple[str, str, Pair]]:
    """The layers of a file as (component, parameter name, weights), in the file's order.

    `file` and `target`, the model's name, are for errors. Raises LoraError for whatever is left over or does not fit.
    """
    layers = _group(file, tensors, shapes, target)
    config = _config(file, metadata)
    for (component, parameter), found in layers.items():
        _check(file, parameter, found, shapes[component][parameter])
    sections = {component: _section(config, component, tensors) for component in shapes}
    for component, section in sections.items():
        if not section:
            _require_clear_scale(file, layers, component)
    made = []
    for (component, parameter), found in layers.items():
        section = sections[component]
        rank, module = len(found["down"]), parameter.removesuffix(".weight")
        if section:
            scale = _configured_scale(file, section, module, rank)
        else:
            scale = float(found["alpha"].item()) / rank if "alpha" in found else 1.0
        made.append((component, parameter, Pair(found["down"], found["up"], scale)))
    return made


def _group(file: str, tensors: Mapping[str, Tensor], shapes: Shapes, target: str) -> Layers:
    known = {
        component: {name.removesuffix(".weight").replace(".", "_"): name for name in names}
        for component, names in shapes.items()
    }
    layers: dict[tuple[str, str], dict[str, str]] = {}
    unknown: list[str] = []
    for name in tensors:
        match = _KEY.fullmatch(name)
        if match is None:
            kind = next((kind for part, kind in _OTHER_KINDS.items() if part in name), "no LoRA's")
            raise LoraError(
                f"{file} holds {name!r:.120}, which is {kind}", remedy="Use a plain LoRA, which has two weights a layer"
            )
        component, layer = _locate(match["layer"])
        parameter = known.get(component, {}).get(layer)
        if parameter is None:
            unknown.append(match["layer"])
            continue
        role = "alpha" if match["alpha"] else "down" if match["down"] or match["old_down"] else "up"
        found = layers.setdefault((component, parameter), {})
        if role in found:
            raise LoraError(f"{file} has the layer {parameter} twice", remedy="Save the LoRA again")
        found[role] = name
    if unknown:
        names = list(dict.fromkeys(unknown))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        cause = "Stable Diffusion XL" if any(part in name for name in names for part in _XL) else "another architecture"
        raise LoraError(
            f"{file} has layers that {target} does not have: {', '.join(names[:3])}{more}, beside {len(layers)} that it"
            " has",
            remedy=f"It was probably made for {cause}: use a LoRA for the checkpoint's own",
        )
    # Not earlier: what is not the model's is never converted.
    return {place: {role: tensors[name] for role, name in found.items()} for place, found in layers.items()}


def _locate(layer: str) -> tuple[str, str]:
    """The component, and the layer's name in it with `_` for every dot, as kohya-ss writes all names."""
    prefix = next((prefix for prefix in _PREFIXES if layer.startswith(prefix)), "")
    component = _PREFIXES.get(prefix, Component.UNET)
    name = layer.removeprefix(prefix).replace(".processor.", ".").replace(".", "_")
    for old, new in _OLD_NAMES[component].items():
        if name.endswith(f"_{old}"):
            name = name.removesuffix(old) + new
    return component, name


def _check(file: str, parameter: str, found: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    """Raise LoraError unless both weights are there, fit the layer, and are finite."""
    missing = {"down", "up"} - found.keys()
    if missing:
        raise LoraError(f"{file} has no {missing.pop()} weight for {parameter}", remedy="Get the file again, it is cut")
    down, up = found["down"], found["up"]
    rank = down.shape[0] if down.ndim else 0
    if rank == 0 or down.shape != (rank, *shape[1:]) or up.shape != (shape[0], rank, *(1 for _ in shape[2:])):
        raise LoraError(
            f"{file} has the weights {list(down.shape)} and {list(up.shape)} for {parameter}, which is {list(shape)}",
            remedy="It was probably made for another architecture: use a LoRA for the checkpoint's own",
        )
    if down.dtype.kind != "f" or up.dtype.kind != "f":
        raise LoraError(
            f"{file} has weights of the types {down.dtype} and {up.dtype} for {parameter}, which are no fractions",
            remedy="Save it again in FP32, FP16 or BF16: its numbers have a meaning only to who packed them",
        )
    if not all(np.isfinite(values).all() for values in found.values()):
        raise LoraError(f"{file} holds values that are not finite for {parameter}", remedy="Get the file again")


def _require_clear_scale(file: str, layers: Layers, component: str) -> None:
    """Raise LoraError if alphas are missing that would be needed.

    diffusers then takes the first layer's rank, or the commonest alpha, for all of them, which depends on their order.
    """
    own = [found for (name, _), found in layers.items() if name == component]
    given = ["alpha" in found for found in own]
    ranks = {len(found["down"]) for found in own}
    if sum(given) not in (0, len(own)) or (not any(given) and len(ranks) > 1):
        raise LoraError(
            f"{file} has {sum(given)} alphas for {len(own)} layers of {component}, of the ranks"
            f" {', '.join(map(str, sorted(ranks)))}: their scale cannot be told",
            remedy="Save it again with diffusers 0.35 or newer, which writes it into the metadata",
        )
    if any(found["alpha"].size != 1 for found in own if "alpha" in found):
        raise LoraError(f"{file} has an alpha that is more than one number", remedy="Save the LoRA again")


def _config(file: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = parse_json(metadata.get(METADATA_KEY) or "{}", finite=False)
    except Malformed as error:
        problem = f"the {METADATA_KEY} of {file} cannot be used: {error}"
        raise LoraError(problem, remedy="Save the LoRA again") from error
    if not isinstance(config, dict):
        raise LoraError(f"the {METADATA_KEY} of {file} is not a JSON object", remedy="Save the LoRA again")
    for key, patterns in config.items():
        if key.endswith(("alpha_pattern", "rank_pattern")) and isinstance(patterns, dict):
            _require_few(file, key, list(patterns))
    return config


def _require_few(file: str, key: str, patterns: list[str]) -> None:
    """Raise LoraError for more patterns than a model has layers: each is tried on every layer."""
    special = sum(not _NAME.fullmatch(text) for text in patterns)
    longest = max(map(len, patterns), default=0)
    if len(patterns) > _MOST_NAMES or special > _MOST_PATTERNS or longest > _LONGEST_PATTERN:
        raise LoraError(
            f"the {key:.60} of {file} has {len(patterns)} entries, {special} of them more than a name, of up to"
            f" {longest} characters",
            remedy=f"{_MOST_NAMES} names and {_MOST_PATTERNS} patterns of up to {_LONGEST_PATTERN} characters are read",
        )


def _section(config: Mapping[str, Any], component: str, names: Mapping[str, Tensor]) -> dict[str, Any]:
    """peft's configuration of a component: under its name as the tensors are, without one if they have none."""
    prefix = f"{component}." if any(name.startswith((*_PREFIXES,)) for name in names) else ""
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


def _configured_scale(file: str, config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv:2312.03732), as peft computes it."""
    initial = str(config.get("init_lora_weights")).lower()
    if config.get("use_dora") or initial.startswith(_CHANGING):
        kind = "DoRA" if config.get("use_dora") else initial
        raise LoraError(f"{file} is {kind}, which is more than a sum of weights", remedy="Use a plain LoRA")
    alpha = _by_pattern(file, config, "alpha_pattern", module, config.get("lora_alpha", 8))
    wanted = _by_pattern(file, config, "rank_pattern", module, config.get("r", 8))
    if wanted != rank:
        raise LoraError(
            f"{file} says the rank {wanted:g} for {module}, and its weights have {rank}", remedy="Save the LoRA again"
        )
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(file: str, config: Mapping[str, Any], key: str, module: str, default: Any) -> float:
    """peft's rule: the first pattern that matches the end of the module's name, else the default."""
    patterns = config.get(key) or {}
    value = default
    if isinstance(patterns, dict):
        value = next((number for text, number in patterns.items() if _matches(file, text, module)), default)
    if not isinstance(patterns, dict) or type(value) not in (int, float) or not math.isfinite(value):
        raise LoraError(f"the {key} of {file} is {str(patterns or value)[:80]}", remedy="Save the LoRA again")
    return float(value)


@lru_cache(maxsize=2 * _MOST_NAMES)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({pattern})$")


def _matches(file: str, pattern: str, module: str) -> bool:
    # A pattern comes from a stranger. Without groups and with two repeats at most it cannot take long.
    try:
        if not re.search(r"[(){}]", pattern) and len(re.findall(r"[*+?]", pattern)) <= 2:
            return _compiled(pattern).match(module) is not None
    except re.error:
        pass
    raise LoraError(f"{file} names its layers by the pattern {pattern!r:.80}", remedy="Save it with the layers' names")
