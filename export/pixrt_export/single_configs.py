"""The configs of a single-file checkpoint's networks in diffusers' form, inferred from the shapes of its tensors."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pixrt_export.options import SingleFilePrediction as Prediction
from pixrt_export.single_tensors import CLIP, FIRST, OPEN_CLIP, UNET, VAE, count, shape_of

if TYPE_CHECKING:
    from torch import Tensor

CLIP_TOKENS = 77
_HEADS, _HEAD_WIDTH = 8, 64  # of attentions: Stable Diffusion 1 has so many, 2 has so wide ones
_CLIP_IDS = 49408


def unet_config(tensors: Mapping[str, "Tensor"], is_second: bool) -> dict[str, Any]:
    """Of the UNet; `is_second`: of Stable Diffusion 2, whose attentions have heads of one width."""
    blocks = count(tensors, rf"{re.escape(UNET)}input_blocks\.(\d+)\.")
    downs = [number for number in range(blocks) if f"{UNET}input_blocks.{number}.0.op.weight" in tensors]
    layers = downs[0] - 1 if downs else blocks - 1
    first = range(1, blocks, layers + 1)  # of each resolution
    channels = [shape_of(tensors, f"{UNET}input_blocks.{number}.0.out_layers.3.weight")[0] for number in first]

    def attends(number: int) -> str | None:
        stem = f"{UNET}input_blocks.{number}.1."
        return next((name for name in tensors if name.startswith(stem) and name.endswith("attn2.to_k.weight")), None)

    attending = [attends(number) for number in first]
    context = next(name for name in attending if name is not None)
    depth = count(tensors, rf"{re.escape(UNET)}middle_block\.1\.transformer_blocks\.(\d+)\.")
    projection = f"{context.partition('transformer_blocks')[0]}proj_in.weight"
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": shape_of(tensors, FIRST)[1],
        "out_channels": shape_of(tensors, f"{UNET}out.2.weight")[0],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attending],
        "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attending)],
        "cross_attention_dim": shape_of(tensors, context)[1],
        "attention_head_dim": [width // _HEAD_WIDTH for width in channels] if is_second else _HEADS,
        "transformer_layers_per_block": depth,
        "use_linear_projection": len(shape_of(tensors, projection)) == 2,
    }


def vae_config(tensors: Mapping[str, "Tensor"]) -> dict[str, Any]:
    """Of the VAE."""
    resolutions = count(tensors, rf"{re.escape(VAE)}encoder\.down\.(\d+)\.")
    layers = count(tensors, rf"{re.escape(VAE)}encoder\.down\.0\.block\.(\d+)\.")
    stem = f"{VAE}encoder.down."
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": 512,
        "in_channels": shape_of(tensors, f"{VAE}encoder.conv_in.weight")[1],
        "out_channels": shape_of(tensors, f"{VAE}decoder.conv_out.weight")[0],
        "latent_channels": shape_of(tensors, f"{VAE}post_quant_conv.weight")[0],
        "block_out_channels": [
            shape_of(tensors, f"{stem}{number}.block.0.conv2.weight")[0] for number in range(resolutions)
        ],
        "layers_per_block": layers,
        "down_block_types": ["DownEncoderBlock2D"] * resolutions,
        "up_block_types": ["UpDecoderBlock2D"] * resolutions,
        "scaling_factor": 0.18215,
    }


def text_config(tensors: Mapping[str, "Tensor"], is_second: bool) -> dict[str, Any]:
    """Of CLIP; Stable Diffusion 2 takes the last layer but one of OpenCLIP's, so the last is left out."""
    if is_second:
        tokens, layer = (
            f"{OPEN_CLIP}token_embedding.weight",
            rf"{re.escape(OPEN_CLIP)}transformer\.resblocks\.(\d+)\.",
        )
        inner = f"{OPEN_CLIP}transformer.resblocks.0.mlp.c_fc.weight"
    else:
        stem = f"{CLIP}text_model." if any(name.startswith(f"{CLIP}text_model.") for name in tensors) else CLIP
        tokens, layer = f"{stem}embeddings.token_embedding.weight", rf"{re.escape(stem)}encoder\.layers\.(\d+)\."
        inner = f"{stem}encoder.layers.0.mlp.fc1.weight"
    ids, width = shape_of(tensors, tokens)
    if ids != _CLIP_IDS:
        raise ValueError(f"the text encoder knows {ids} tokens, CLIP has {_CLIP_IDS}")
    layers = count(tensors, layer)
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": ids,
        "hidden_size": width,
        "intermediate_size": shape_of(tensors, inner)[0],
        "num_hidden_layers": layers - 1 if is_second and layers > 1 else layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "hidden_act": "gelu" if is_second else "quick_gelu",
        "max_position_embeddings": CLIP_TOKENS,
        "projection_dim": width,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def scheduler_config(prediction: Prediction) -> dict[str, Any]:
    """What all of them were trained with; the original code samples with DDIM."""
    return {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "steps_offset": 1,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "prediction_type": prediction,
    }
