"""Which layer a name in a LoRA file is of, whichever tool wrote it.

    unet.down_blocks.0.(...).attn1.to_q                        diffusers; before 0.22 without `unet.`
    base_model.model.down_blocks.0.(...).attn1.to_q            peft's own save
    lora_unet_down_blocks_0_(...)_attn1_to_q                   kohya-ss, LyCORIS, OneTrainer
    diffusion_model.input_blocks.1.1.(...).attn1.to_q          ComfyUI
    unet.input_blocks.1.1.(...), clip_l.text_model.(...)       OneTrainer's other format

What is left without the prefix is the layer's name in diffusers or in the original UNet, with dots or underscores, and
is looked for in both networks where the prefix names none. Must not import anything of pixrt but the manifest.
"""

import re
from collections.abc import Iterator, Mapping

from pixrt.bundles.manifest import Component

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Component, parameter name (`conv_in.weight`), shape as PyTorch has it."""
Place = tuple[str, str]
"""Component and parameter name."""

PEFT = "base_model.model."
_PREFIXES = {
    PEFT: None,
    "lycoris_": None,
    "model.diffusion_model.": Component.UNET,
    "diffusion_model.": Component.UNET,
    "unet.": Component.UNET,
    "lora_unet_": Component.UNET,
    "text_encoder.": Component.TEXT_ENCODER,
    "lora_te_": Component.TEXT_ENCODER,
    "lora_te1_": Component.TEXT_ENCODER,
    "cond_stage_model.transformer.": Component.TEXT_ENCODER,
    **{
        f"{start}{name}.{end}": Component.TEXT_ENCODER
        for start in ("text_encoders.", "")
        for name in ("clip_l", "clip_h")
        for end in ("transformer.", "")
    },
}
# In old files of diffusers attention layers are called the same in every network.
_OLD_NAMES = {
    Component.UNET: {"to_out_0": "to_out"},
    Component.TEXT_ENCODER: {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"},
}
# Inside a block of the original UNet (CompVis' latent-diffusion), where it differs.
_ORIGINAL_INNER = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ORIGINAL = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}
_BLOCK = re.compile(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
# Marks of other models in their files' names, most telling first.
_OTHERS = (
    (r"^transformer\.|(double|single|joint)_(transformer_)?blocks", "another architecture, such as Flux"),
    (r"text_encoder_2|lora_te2_|clip_g|add_embedding|label_emb|transformer_blocks[._][1-9]", "Stable Diffusion XL"),
)


class Layers:
    """The layers of a model, by every name that a tool may have for them."""

    def __init__(self, shapes: Shapes) -> None:
        self._known = {part: dict(_names(part, [*names])) for part, names in shapes.items()}

    def find(self, name: str) -> Place | None:
        """The layer that a name is of; None if the model has none of that name."""
        part, bare = _without_prefix(name)
        flat = bare.replace(".processor.", ".").replace(".", "_")
        for component in (part,) if part else (Component.UNET, Component.TEXT_ENCODER):
            parameter = self._known.get(component, {}).get(flat)
            if parameter is not None:
                return component, parameter
        return None


def names_component(name: str) -> bool:
    """Whether a tensor's name says which network it is of."""
    return _without_prefix(name)[0] is not None


def made_for(names: list[str]) -> str:
    """What a file of layers that no model here has was probably made for."""
    told = (model for marks, model in _OTHERS if any(re.search(marks, name) for name in names))
    return next(told, "another architecture")


def _without_prefix(name: str) -> tuple[Component | None, str]:
    component = None
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""):
        component, name = component or _PREFIXES[prefix], name.removeprefix(prefix)
    return component, name


def _names(component: str, parameters: list[str]) -> Iterator[tuple[str, str]]:
    """Every name of every layer, with `_` for every dot, and its parameter."""
    for parameter in parameters:
        name = parameter.removesuffix(".weight")
        yield name.replace(".", "_"), parameter
        for new, old in _OLD_NAMES.get(component, {}).items():  # type: ignore[call-overload]
            flat = name.replace(".", "_")
            if flat.endswith(f"_{new}"):
                yield flat.removesuffix(new) + old, parameter
    if component == Component.UNET:
        yield from ((_original(name, parameters).replace(".", "_"), name) for name in parameters)


def _original(parameter: str, parameters: list[str]) -> str:
    """The layer's name in the original UNet, whose blocks are counted without regard to levels."""
    name = parameter.removesuffix(".weight")
    match = _BLOCK.fullmatch(name)
    if match is None:
        return _ORIGINAL.get(name, name)
    part, level, kind, number, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    rest = _ORIGINAL_INNER.get(rest, rest) if kind == "resnets" else rest
    layers = 1 + max((int(found[1]) for text in parameters if (found := _FIRST.match(text))), default=0)
    if part == "mid":
        return f"middle_block.{2 * number + (kind == 'attentions')}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (level + 1)}.0.op"
    if kind == "upsamplers":
        attends = any(text.startswith(f"up_blocks.{level}.attentions.") for text in parameters)
        return f"output_blocks.{(layers + 1) * (level + 1) - 1}.{1 + attends}.conv"
    at = (layers + 1) * level + number + (part == "down")
    return f"{'input' if part == 'down' else 'output'}_blocks.{at}.{int(kind == 'attentions')}.{rest}"


_FIRST = re.compile(r"down_blocks\.0\.resnets\.(\d+)\.")
