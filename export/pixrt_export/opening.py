"""Opening a checkpoint: finding its parts, exchanging or cutting them, and refusing what cannot be exported."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

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
from pixrt_export.support import require_family, require_supported, require_vae
from pixrt_export.tokenizer import require_tokenizer


def open_checkpoint(
    name: str, *, allow_pickle: bool = False, vae: str | None = None, without_source: bool = False
) -> Checkpoint:
    """Find a checkpoint (a folder, or a hub id) and check that it can be exported. Raises CheckpointError.

    `vae` is where to take the VAE from instead: see `hub.find_vae`. Its own VAE's weights need not be there then.
    """
    folder, id_ = find_parts(name, allow_pickle=allow_pickle, other_vae=vae is not None)
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
        require_vae(checkpoint)
        require_supported(checkpoint)
        checkpoint.tokenizer()
        _ = checkpoint.sample_size
    if vae is not None:
        checkpoint = _with_vae(checkpoint, vae)
    return _without_source(checkpoint) if without_source else checkpoint


def find_parts(name: str, *, allow_pickle: bool = False, other_vae: bool = False) -> tuple[Path, str]:
    """A checkpoint's folder and what to call it, with every part that is needed. Raises CheckpointError."""
    folder, id_ = find_checkpoint(name, allow_pickle)
    if not any((folder / part).exists() for part in ("model_index.json", "unet", "transformer")):
        files = sorted(path.name for path in folder.iterdir())
        single = next((file for file in files if file.endswith(".safetensors")), None)
        if single is not None:
            problem = f"{name} is not in diffusers' format, and holds {single}"
            raise CheckpointError(problem, remedy=f"Give the file itself, if it is a whole checkpoint: {name}/{single}")
        pickles = [file for file in files if file.endswith(PICKLES)]
        if pickles:
            raise CheckpointError(f"{name} holds {pickles[0]}, a pickle, and no diffusers folder", remedy=CONVERT)
        raise CheckpointError(
            f"{name} is not in diffusers' format: it has neither model_index.json nor unet/",
            remedy="Give the folder that `save_pretrained` wrote",
        )
    require_family(name, folder)
    for part in PARTS:
        if not (folder / part).is_dir():
            raise CheckpointError(f"{name} has no folder {part}/", remedy="Download the whole checkpoint")
    for part in WEIGHTS:
        if part != "vae" or not other_vae:
            require_weights(folder / part, part, f"{part} of {id_}", allow_pickle)
    return folder, id_


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
        require_vae(checkpoint)
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
