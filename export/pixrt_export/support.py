"""Which checkpoints can be exported: what their configs must say, and what others are called. Imports no PyTorch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixrt.errors import CheckpointError
from pixrt_export.checkpoint import Checkpoint
from pixrt_export.hub import read_json

_STABLE_DIFFUSION = "Use a Stable Diffusion 1.x or 2.x checkpoint"
# What the classes of other models' pipelines and networks in diffusers begin with.
_FAMILIES = (
    *(
        ("StableDiffusionXL", "Stable Diffusion XL"),
        ("StableDiffusion3", "Stable Diffusion 3"),
        ("SD3", "Stable Diffusion 3"),
    ),
    *(("Flux", "Flux"), ("PixArt", "PixArt"), ("Kandinsky", "Kandinsky"), ("Wuerstchen", "Würstchen")),
    *(("StableCascade", "Stable Cascade"), ("Sana", "Sana"), ("AuraFlow", "AuraFlow"), ("Hunyuan", "Hunyuan")),
    *(
        ("QwenImage", "Qwen-Image"),
        ("IF", "DeepFloyd IF"),
        ("OmniGen", "OmniGen"),
        ("Lumina", "Lumina"),
        ("Chroma", "Chroma"),
    ),
)
# Noise processes other than DDPM's, by what their schedulers' classes or configs say.
_FLOW = (
    ("FlowMatch", "flow matching"),
    ("EDM", "EDM (Karras et al. 2022)"),
    ("KarrasVe", "Karras' variance exploding one"),
)
_OTHERS = (
    *_FLOW,
    ("ScoreSdeVe", "a variance-exploding one"),
    ("VQDiffusion", "of VQ-Diffusion"),
    ("SCM", "of TrigFlow"),
)


def require_family(name: str, folder: Path) -> None:
    """Raise CheckpointError for a folder of another kind of model, with what it is."""
    index = read_json(folder / "model_index.json", required=False)
    said = [str(index.get("_class_name") or "")]
    for part in ("transformer", "unet"):
        said.append(str(read_json(folder / part / "config.json", required=False).get("_class_name") or ""))
    for beginning, family in _FAMILIES:
        if any(each.startswith(beginning) for each in said):
            raise CheckpointError(f"{name} is {family} ({next(filter(None, said))})", remedy=_STABLE_DIFFUSION)
    if "text_encoder_2" in index or (folder / "text_encoder_2").is_dir():
        raise CheckpointError(f"{name} has a second text encoder (Stable Diffusion XL)", remedy=_STABLE_DIFFUSION)
    if not (folder / "unet").is_dir() and (folder / "transformer").is_dir():
        problem = f"{name} has a transformer in the UNet's place ({said[0] or said[1] or 'of no name'})"
        raise CheckpointError(problem, remedy=_STABLE_DIFFUSION)


def require_noise_process(scheduler: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a UNet of another noise process than DDPM's, whichever solver is to run it."""
    prediction = scheduler.get("prediction_type") or "epsilon"
    saved = str(scheduler.get("_class_name") or "")
    other = next((words for beginning, words in _OTHERS if saved.startswith(beginning)), None)
    if other is None and (scheduler.get("use_flow_sigmas") or str(prediction).startswith("flow")):
        other = "flow matching"
    if other is None and (
        scheduler.get("timestep_type") == "continuous" or any(scheduler.get(key) for key in ("sigma_data", "sigma_max"))
    ):
        other = _FLOW[1][1]
    if other is not None:
        raise CheckpointError(
            f"the checkpoint's scheduler is {saved or 'of no class'}, and its noise process is {other}",
            remedy="Use a checkpoint trained with DDPM's noise: no --scheduler can change that",
        )
    if prediction not in ("epsilon", "v_prediction"):
        raise CheckpointError(f"prediction_type is {prediction!r}", remedy="Supported: epsilon, v_prediction")


def require_vae(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless the VAE is of a class, and for pictures, that a bundle takes."""
    vae, called, known = checkpoint.vae, checkpoint.called("vae"), ("AutoencoderKL", "AutoencoderTiny")
    if vae.get("_class_name") not in known:
        raise CheckpointError(f"the {called} is {vae.get('_class_name')}", remedy=f"Supported: {', '.join(known)}")
    if "latent_channels" not in vae:
        raise CheckpointError(f"the config of the {called} says no latent_channels", remedy="Download it again")
    if (vae.get("in_channels", 3), vae.get("out_channels", 3)) != (3, 3):
        raise CheckpointError(
            f"the {called} goes from {vae.get('in_channels')} to {vae.get('out_channels')} channels",
            remedy="Use one for RGB pictures",
        )
    factor = checkpoint.scaling_factor
    if not math.isfinite(factor) or factor <= 0:
        raise CheckpointError(f"scaling_factor is {factor} in the config of the {called}", remedy="Mend it there")
    _ = checkpoint.latent_channels, checkpoint.vae_scale


def require_supported(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless every network is one of Stable Diffusion 1.x or 2.x, and fits the others."""
    unet = checkpoint.unet
    kinds = {
        "unet": (unet.get("_class_name"), "UNet2DConditionModel"),
        "text_encoder": ((checkpoint.text_encoder.get("architectures") or [None])[0], "CLIPTextModel"),
    }
    for part, (kind, known) in kinds.items():
        if kind != known:
            raise CheckpointError(f"the {part} is {kind}", remedy=f"Supported: {known}")
    if unet.get("addition_embed_type") == "text_time":
        raise CheckpointError(
            "the unet is Stable Diffusion XL's (addition_embed_type text_time)", remedy=_STABLE_DIFFUSION
        )
    # An embedding of the text beside that of the time takes nothing but the text.
    needless = {"addition_embed_type": "text"}
    conditions = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
    for key in (*conditions, "time_cond_proj_dim"):
        if unet.get(key) not in (None, needless.get(key)):
            raise CheckpointError(
                f"the unet has {key} {unet[key]!r}", remedy="Use a Stable Diffusion 1.x or 2.x checkpoint without it"
            )
    latent = checkpoint.latent_channels
    supported = {latent: "text-to-image", 2 * latent: "editing", 2 * latent + 1: "inpainting"}
    if unet.get("in_channels") not in supported:
        listed = ", ".join(f"{channels} ({task})" for channels, task in supported.items())
        raise CheckpointError(f"the unet has in_channels {unet.get('in_channels')}", remedy=f"Supported: {listed}")
    if unet.get("out_channels", 4) != latent:
        raise CheckpointError(
            f"the unet has out_channels {unet.get('out_channels')}, the latents have {latent}",
            remedy="Use a checkpoint that predicts only noise or v, without a variance",
        )
    if unet.get("cross_attention_dim") != checkpoint.text_encoder.get("hidden_size"):
        raise CheckpointError(
            f"the unet wants text of width {unet.get('cross_attention_dim')}, the text encoder gives"
            f" {checkpoint.text_encoder.get('hidden_size')}",
            remedy="Check that the parts belong together",
        )
    require_noise_process(checkpoint.scheduler)
