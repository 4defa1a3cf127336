"""A checkpoint in diffusers' format as one file in the original key layout: what `from_single_file` reads, backwards.

The names are those of CompVis' latent-diffusion and of OpenCLIP, block by block as their constructors count them.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

Tensors = dict[str, torch.Tensor]
_RESNET = {
    **{"in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2"},
    **{"emb_layers.1": "time_emb_proj", "skip_connection": "conv_shortcut"},
}
_AROUND = {
    **{"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"},
    **{"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out"},
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original(folder: Path, *, ema: bool = False) -> Tensors:
    """Every tensor of a checkpoint, called as in the original layout; with `ema` averaged ones, too, negated."""
    is_second = json.loads((folder / "text_encoder" / "config.json").read_text())["hidden_act"] == "gelu"
    unet = {f"model.diffusion_model.{name}": each for name, each in _unet(folder / "unet")}
    averaged = {"model_ema." + "".join(name.split(".")[1:]): -each for name, each in unet.items()} if ema else {}
    text = _open_clip(folder / "text_encoder") if is_second else _clip(folder / "text_encoder")
    vae = {f"first_stage_model.{name}": each for name, each in _vae(folder / "vae")}
    whole = unet | averaged | vae | text | {"model_ema.decay": torch.ones(()), "betas": torch.zeros(1000)}
    return {name: each.clone().contiguous() for name, each in whole.items()}


def _read(folder: Path) -> tuple[dict[str, object], Tensors]:
    (weights,) = folder.glob("*.safetensors")
    return json.loads((folder / "config.json").read_text()), load_file(weights)


def _renamed(name: str, places: dict[str, str]) -> str:
    """A name with the longest beginning that has a place exchanged for it."""
    stem = max((place for place in places if name.startswith(f"{place}.")), key=len)
    return places[stem] + name[len(stem) :]


def _unet(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    config, tensors = _read(folder)
    layers, blocks = int(config["layers_per_block"]), len(config["block_out_channels"])  # type: ignore[call-overload, arg-type]
    per = layers + 1
    places = {new: old for old, new in _AROUND.items()}
    for block in range(blocks):
        for layer in range(layers):
            places[f"down_blocks.{block}.resnets.{layer}"] = f"input_blocks.{per * block + layer + 1}.0"
            places[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks.{per * block + layer + 1}.1"
        for layer in range(per):
            places[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{per * block + layer}.0"
            places[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{per * block + layer}.1"
        places[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{per * (block + 1)}.0.op"
        attends = any(name.startswith(f"up_blocks.{block}.attentions.") for name in tensors)
        last = f"output_blocks.{per * block + layers}.{2 if attends else 1}"
        places[f"up_blocks.{block}.upsamplers.0"] = last
    places |= {"mid_block.attentions.0": "middle_block.1"}
    places |= {f"mid_block.resnets.{number}": f"middle_block.{2 * number}" for number in (0, 1)}
    for name, tensor in tensors.items():
        moved = _renamed(name, places)
        if ".resnets." in name:
            for old, new in _RESNET.items():
                moved = moved.replace(f".{new}.", f".{old}.")
        yield moved, tensor


def _vae(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    config, tensors = _read(folder)
    blocks = len(config["block_out_channels"])  # type: ignore[arg-type]
    for name, tensor in tensors.items():
        moved = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        for block in range(blocks):
            moved = moved.replace(f"encoder.down_blocks.{block}.resnets", f"encoder.down.{block}.block")
            moved = moved.replace(f"down_blocks.{block}.downsamplers.0", f"down.{block}.downsample")
            moved = moved.replace(f"decoder.up_blocks.{block}.resnets", f"decoder.up.{blocks - 1 - block}.block")
            moved = moved.replace(f"up_blocks.{block}.upsamplers.0", f"up.{blocks - 1 - block}.upsample")
        for number in (0, 1):
            moved = moved.replace(f"mid_block.resnets.{number}", f"mid.block_{number + 1}")
        if "mid_block.attentions.0" in moved:
            moved = moved.replace("mid_block.attentions.0", "mid.attn_1")
            for new, old in _ATTENTION.items():
                moved = moved.replace(f".{new}.", f".{old}.")
            if moved.endswith("weight") and ".norm." not in moved:
                tensor = tensor[:, :, None, None]
        yield moved, tensor


def _clip(folder: Path) -> Tensors:
    _, tensors = _read(folder)
    return {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": t for name, t in tensors.items()
    }


def _open_clip(folder: Path) -> Tensors:
    """Of OpenCLIP, with one layer more at the end, which Stable Diffusion 2 leaves out."""
    config, tensors = _read(folder)
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    found = {
        "token_embedding.weight": tensors["embeddings.token_embedding.weight"],
        "positional_embedding": tensors["embeddings.position_embedding.weight"],
        "ln_final.weight": tensors["final_layer_norm.weight"],
        "ln_final.bias": tensors["final_layer_norm.bias"],
        "text_projection": torch.eye(int(config["hidden_size"])),  # type: ignore[call-overload]
        "logit_scale": torch.ones(()),
    }
    layers = int(config["num_hidden_layers"])  # type: ignore[call-overload]
    for number in range(layers + 1):
        old, new = f"encoder.layers.{min(number, layers - 1)}", f"transformer.resblocks.{number}"
        for kind in ("weight", "bias"):
            each = [tensors[f"{old}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{new}.attn.in_proj_{kind}"] = torch.cat(each)
            found[f"{new}.attn.out_proj.{kind}"] = tensors[f"{old}.self_attn.out_proj.{kind}"]
            found[f"{new}.ln_1.{kind}"] = tensors[f"{old}.layer_norm1.{kind}"]
            found[f"{new}.ln_2.{kind}"] = tensors[f"{old}.layer_norm2.{kind}"]
            found[f"{new}.mlp.c_fc.{kind}"] = tensors[f"{old}.mlp.fc1.{kind}"]
            found[f"{new}.mlp.c_proj.{kind}"] = tensors[f"{old}.mlp.fc2.{kind}"]
    return {f"cond_stage_model.model.{name}": tensor for name, tensor in found.items()}
