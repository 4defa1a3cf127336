"""Networks to train: new ones from configs, and an editing UNet out of one that makes pictures from text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pixrt.bundles.store import BUILT_IN
from pixrt.errors import CheckpointError, OptionError
from pixrt_export.checkpoint import Checkpoint
from pixrt_export.training.output import INDEX, checkpoint_folder

PARTS = ("vae", "unet", "text_encoder", "scheduler")


def new_checkpoint(networks: Mapping[str, Mapping[str, Any]], seed: int, output: Path) -> None:
    """Write a checkpoint of new networks, of random weights that follow from the seed, with CLIP's tokenizer.

    Raises OptionError for a config that diffusers or transformers do not take.
    """
    if set(networks) != set(PARTS):
        raise OptionError(f"[networks] has {', '.join(networks)}", remedy=f"Describe all of {', '.join(PARTS)}")
    torch.manual_seed(seed)
    try:
        vae = _new_autoencoder(**networks["vae"])
        unet = UNet2DConditionModel(**networks["unet"])
        text_encoder = CLIPTextModel(CLIPTextConfig(**networks["text_encoder"]))
        scheduler = DDIMScheduler(**networks["scheduler"])
    except (TypeError, ValueError) as error:
        raise OptionError(f"[networks] cannot be built: {error}", remedy="Compare with export/configs") from error
    with checkpoint_folder(output, {**INDEX, "vae": ["diffusers", type(vae).__name__]}) as folder:
        for name, part in zip(PARTS, (vae, unet, text_encoder, scheduler), strict=True):
            part.save_pretrained(folder / name)
        vocabulary = BUILT_IN / "shapes"
        CLIPTokenizer(
            str(vocabulary / "vocab.json"),
            str(vocabulary / "merges.txt"),
            pad_token="<|endoftext|>",
            model_max_length=text_encoder.config.max_position_embeddings,
        ).save_pretrained(folder / "tokenizer")


def _new_autoencoder(_class_name: str = "AutoencoderKL", **config: Any) -> AutoencoderKL | AutoencoderTiny:
    """An autoencoder of the class that its config names, as in a checkpoint's `config.json`."""
    kinds = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    if _class_name not in kinds:
        raise ValueError(f"_class_name of vae is {_class_name}, and only {' and '.join(kinds)} are known")
    return kinds[_class_name](**config)


def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same network with as many input channels again, for source latents; their weights start at zero.

    So its output is at first the same, whatever the source latents are (arXiv:2211.09800, section 3.2).
    """
    channels = unet.config["in_channels"]
    wide = UNet2DConditionModel.from_config(unet.config, in_channels=2 * channels)
    weights = unet.state_dict()
    kernel = weights["conv_in.weight"]  # [out, C, 3, 3]
    weights["conv_in.weight"] = torch.cat([kernel, torch.zeros_like(kernel)], dim=1)
    wide.load_state_dict(weights)
    return wide


def load_for_lora(checkpoint: Checkpoint) -> UNet2DConditionModel:
    """The checkpoint's UNet as it is. Raises CheckpointError for inpainting, and for sources of no known scale."""
    channels, latents = int(checkpoint.unet["in_channels"]), checkpoint.latent_channels
    if channels not in (latents, 2 * latents):
        raise CheckpointError(
            f"the unet has {channels} input channels for latents of {latents}, and training sets have no masks",
            remedy=f"Train on the text-to-image ({latents}) or editing ({2 * latents}) checkpoint that it came from:"
            " its LoRA fits this one too",
        )
    if channels != latents:
        _require_known_scale(checkpoint)
    unet: UNet2DConditionModel = checkpoint.load("unet")
    return unet


def _require_known_scale(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for an autoencoder that encodes to scaled latents, as TAESD does, and does not say how."""
    if checkpoint.vae_kind == "AutoencoderTiny" and checkpoint.known_factor is None:
        raise CheckpointError(
            "the checkpoint has an AutoencoderTiny, which does not say how its source latents are scaled",
            remedy="Train with the checkpoint's own AutoencoderKL: what is learned fits both",
        )


def load_autoencoder(checkpoint: Checkpoint) -> AutoencoderKL | AutoencoderTiny:
    """The checkpoint's autoencoder, to be trained."""
    vae: AutoencoderKL | AutoencoderTiny = checkpoint.load("vae")
    return vae


def load_for_editing(checkpoint: Checkpoint) -> UNet2DConditionModel:
    """The checkpoint's UNet, widened if it makes pictures from text.

    Raises CheckpointError for inpainting, and for sources of no known scale.
    """
    _require_known_scale(checkpoint)
    unet: UNet2DConditionModel = checkpoint.load("unet")
    channels, latents = int(checkpoint.unet["in_channels"]), checkpoint.latent_channels
    if channels == latents:
        return widened(unet)
    if channels != 2 * latents:
        raise CheckpointError(
            f"the unet has {channels} input channels for latents of {latents}",
            remedy=f"Start from a text-to-image ({latents}) or an editing ({2 * latents}) checkpoint",
        )
    return unet
