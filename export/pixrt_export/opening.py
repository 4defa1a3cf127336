"""Opening a checkpoint: finding its parts, exchanging or cutting them, and refusing what cannot be exported."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pixrt.errors import CheckpointError
from pixrt_export.checkpoint import Checkpoint, OtherVae
from pixrt_export.hub import (
    CONVERT,
    CONVERT_VAE,
    PARTS,
    PICKLES,
    WEIGHTS,
    find_checkpoint,
    find_vae,
    read_json,
    require_weights,
)
from pixrt_export.tokenizer import require_tokenizer


def open_checkpoint(
    name: str, *, allow_pickle: bool = False, vae: str | None = None, without_source: bool = False
) -> Checkpoint:
    """Find a checkpoint (a folder, or a hub id) and check that it can be exported. Raises CheckpointError.

    `vae` is where to take the VAE from instead: see `hub.find_vae`. Its own VAE's weights need not be there then.
    """
    folder, id_ = find_checkpoint(name, allow_pickle)
    if not (folder / "model_index.json").is_file() and not (folder / "unet").is_dir():
        pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
        if pickles:
            raise CheckpointError(f"{name} holds {pickles[0]}, a pickle, and no diffusers folder", remedy=CONVERT)
        raise CheckpointError(
            f"{name} is not in diffusers' format: it has neither model_index.json nor unet/",
            remedy="Give the folder that `save_pretrained` wrote",
        )
    index = read_json(folder / "model_index.json", required=False)
    if "text_encoder_2" in index or (folder / "text_encoder_2").is_dir():
        raise CheckpointError(
            f"{name} has a second text encoder (Stable Diffusion XL)", remedy="Use a Stable Diffusion 1.x or 2.x one"
        )
    for part in PARTS:
        if not (folder / part).is_dir():
            raise CheckpointError(f"{name} has no folder {part}/", remedy="Download the whole checkpoint")
    for part in WEIGHTS:
        if part != "vae" or vae is None:
            require_weights(folder / part, part, f"{part} of {id_}", allow_pickle)
    checkpoint = Checkpoint(
        id=id_,
        folder=folder,
        allow_pickle=allow_pickle,
        unet=read_json(folder / "unet" / "config.json"),
        vae=read_json(folder / "vae" / "config.json"),
        text_encoder=read_json(folder / "text_encoder" / "config.json"),
        scheduler=read_json(folder / "scheduler" / "scheduler_config.json"),
    )
    require_tokenizer(folder / "tokenizer", name)
    with _naming_values(name):
        _require_vae(checkpoint)
        _require_supported(checkpoint)
        checkpoint.tokenizer()
        _ = checkpoint.sample_size
    if vae is not None:
        checkpoint = _with_vae(checkpoint, vae)
    return _without_source(checkpoint) if without_source else checkpoint


@contextmanager
def _naming_values(name: str) -> Iterator[None]:
    """Turn what a config's value of the wrong type or range raises into CheckpointError."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"a config of {name} has a value that cannot be: {error}", remedy="Get the checkpoint's configs again"
        ) from error


def _with_vae(own: Checkpoint, name: str) -> Checkpoint:
    """The checkpoint with another VAE. Raises CheckpointError if its latents cannot be those of its own VAE."""
    folder, id_ = find_vae(name, own.allow_pickle)
    other = OtherVae(id_, folder, own.known_factor)
    checkpoint = replace(own, vae=read_json(folder / "config.json"), other_vae=other)
    called = checkpoint.called("vae")
    require_weights(folder, "vae", called, own.allow_pickle, CONVERT_VAE)
    with _naming_values(name):
        _require_vae(checkpoint)
        pairs: dict[str, tuple[float, float]] = {
            "latent_channels": (checkpoint.latent_channels, own.latent_channels),
            "pixels per latent": (checkpoint.vae_scale, own.vae_scale),
        }
        # AutoencoderTiny's says nothing: its latents are scaled already.
        if checkpoint.vae_kind == "AutoencoderKL" and own.known_factor is not None:
            pairs["scaling_factor"] = checkpoint.scaling_factor, own.known_factor
    for what, (found, needed) in pairs.items():
        if found != needed:
            raise CheckpointError(
                f"the {called} has {what} {found}, the checkpoint's own {needed}, which the unet was trained on",
                remedy="Use a VAE made for the latents of this checkpoint",
            )
    return checkpoint


def _without_source(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint without its source's channels. Raises CheckpointError if it is none that edits."""
    channels, latents = checkpoint.in_channels, checkpoint.latent_channels
    if channels != 2 * latents:
        raise CheckpointError(
            f"the {checkpoint.called('unet')} has in_channels {channels}, and only an edit checkpoint's {2 * latents}"
            " can be cut to be without a source",
            remedy="Export it without --without-source",
        )
    return replace(checkpoint, without_source=True)


def _require_vae(checkpoint: Checkpoint) -> None:
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


def _require_supported(checkpoint: Checkpoint) -> None:
    unet = checkpoint.unet
    kinds = {
        "unet": (unet.get("_class_name"), "UNet2DConditionModel"),
        "text_encoder": ((checkpoint.text_encoder.get("architectures") or [None])[0], "CLIPTextModel"),
    }
    for part, (kind, known) in kinds.items():
        if kind != known:
            raise CheckpointError(f"the {part} is {kind}", remedy=f"Supported: {known}")
    conditions = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
    for key in (*conditions, "time_cond_proj_dim"):
        if unet.get(key) is not None:
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
    prediction = checkpoint.scheduler.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise CheckpointError(f"prediction_type is {prediction!r}", remedy="Supported: epsilon, v_prediction")
