"""Reading a diffusers-format checkpoint: its configs, its weights' identity, and each network as a PyTorch module.

Nothing is assumed of the architecture that the configs do not say. Pickles are not read, unless asked for, and then
with PyTorch's `weights_only` loading alone.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pixrt.errors import CheckpointError
from pixrt.spec import PredictionType, TokenizerSpec
from pixrt_export.hub import CONVERT, PARTS, PICKLES, WEIGHTS, best_variant, find_checkpoint, require_weights


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's folder and its configs, checked for what the exporter can do.

    `unet`, `vae`, `text_encoder` and `scheduler` are the JSON configs as they are.
    """

    id: str
    folder: Path
    allow_pickle: bool
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.vae["latent_channels"])

    @property
    def vae_scale(self) -> int:
        """Pixels per latent, from the number of the VAE's resolutions."""
        if self.vae_kind == "AutoencoderTiny":
            # One stride-2 convolution before every group of blocks but the first.
            return int(2 ** (len(self.vae["encoder_block_out_channels"]) - 1))
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def vae_kind(self) -> Literal["AutoencoderKL", "AutoencoderTiny"]:
        """The VAE's class."""
        return "AutoencoderTiny" if self.vae["_class_name"] == "AutoencoderTiny" else "AutoencoderKL"

    @property
    def sample_size(self) -> int:
        """Side of the latents that the UNet was made for."""
        size = self.unet.get("sample_size")
        return int(max(size) if isinstance(size, list) else size or 64)

    @property
    def scaling_factor(self) -> float:
        """What latents are divided by before they are decoded."""
        return float(self.vae.get("scaling_factor") or (1.0 if self.vae_kind == "AutoencoderTiny" else 0.18215))

    @property
    def prediction_type(self) -> PredictionType:
        """What the UNet predicts."""
        return "v_prediction" if self.scheduler.get("prediction_type") == "v_prediction" else "epsilon"

    def tokenizer(self) -> TokenizerSpec:
        """The tokenizer's special tokens; its two files are named as in a bundle."""
        config = _read_json(self.folder / "tokenizer" / "tokenizer_config.json", required=False)
        special = _read_json(self.folder / "tokenizer" / "special_tokens_map.json", required=False)

        def token(name: str, default: str) -> str:
            value = special.get(name) or config.get(name) or default
            return str(value["content"] if isinstance(value, dict) else value)

        length = config.get("model_max_length", 77)
        return TokenizerSpec(
            vocab="vocab.json",
            merges="merges.txt",
            max_length=min(int(length), int(self.text_encoder.get("max_position_embeddings", 77))),
            bos_token=token("bos_token", "<|startoftext|>"),
            eos_token=token("eos_token", "<|endoftext|>"),
            unk_token=token("unk_token", "<|endoftext|>"),
            pad_token=token("pad_token", "<|endoftext|>"),
        )

    def sha256(self) -> str:
        """SHA-256 over the names and contents of the configs and weights, in the order of their names."""
        digest = hashlib.sha256()
        try:
            for path in sorted(self._identity_files()):
                digest.update(path.relative_to(self.folder).as_posix().encode() + b"\0")
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise CheckpointError(f"the checkpoint cannot be read: {error}", remedy="Check its permissions") from error
        return digest.hexdigest()

    def load(self, part: str) -> Any:
        """The network of `part` as a PyTorch module in FP32, in evaluation mode.

        Raises CheckpointError where weights are missing, do not fit the config or hold values that are not finite.
        """
        import diffusers
        import torch
        import transformers

        classes = {
            "unet": diffusers.UNet2DConditionModel,
            "vae": getattr(diffusers, self.vae_kind),
            "text_encoder": transformers.CLIPTextModel,
        }
        try:
            module, found = classes[part].from_pretrained(
                self.folder / part,
                torch_dtype=torch.float32,
                use_safetensors=not self.allow_pickle or None,
                variant=best_variant(self.folder, part),
                output_loading_info=True,
            )
        except Exception as error:  # the libraries raise many unrelated types on configs and weights
            raise_if_out_of_memory(error)
            raise CheckpointError(
                f"the {part} of {self.id} cannot be loaded: {str(error).strip()[:300]}",
                remedy="Check that its config and its weights belong together",
            ) from error
        # transformers fills what is missing with random values, and says so only here.
        absent = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
        if absent:
            raise CheckpointError(
                f"the weight {absent[0]} of {part} is missing or of another shape", remedy="Get the checkpoint again"
            )
        for name, values in module.named_parameters():
            if not bool(torch.isfinite(values).all()):
                raise CheckpointError(
                    f"the weight {name} of {part} holds values that are not finite", remedy="Get the checkpoint again"
                )
        return module.eval()

    def _identity_files(self) -> Iterator[Path]:
        for part in PARTS:
            yield from (
                path
                for path in (self.folder / part).iterdir()
                if path.suffix in (".json", ".safetensors", ".txt", *(PICKLES if self.allow_pickle else ()))
            )


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is what PyTorch or Python say where memory is short."""
    # PyTorch's own type is told by its name: importing it here would take PyTorch's time to read a config.
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return short or "DefaultCPUAllocator" in str(error)


def raise_if_out_of_memory(error: Exception) -> None:
    """Raise CheckpointError where memory is short; else do nothing."""
    if is_out_of_memory(error):
        raise CheckpointError("the machine ran out of memory", remedy="Use one with more memory") from error


def open_checkpoint(name: str, *, allow_pickle: bool = False) -> Checkpoint:
    """Find a checkpoint (a folder, or a hub id) and check that it can be exported. Raises CheckpointError."""
    folder, id_ = find_checkpoint(name, allow_pickle)
    if not (folder / "model_index.json").is_file() and not (folder / "unet").is_dir():
        pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
        if pickles:
            raise CheckpointError(f"{name} holds {pickles[0]}, a pickle, and no diffusers folder", remedy=CONVERT)
        raise CheckpointError(
            f"{name} is not in diffusers' format: it has neither model_index.json nor unet/",
            remedy="Give the folder that `save_pretrained` wrote",
        )
    index = _read_json(folder / "model_index.json", required=False)
    if "text_encoder_2" in index or (folder / "text_encoder_2").is_dir():
        raise CheckpointError(
            f"{name} has a second text encoder (Stable Diffusion XL)", remedy="Use a Stable Diffusion 1.x or 2.x one"
        )
    for part in PARTS:
        if not (folder / part).is_dir():
            raise CheckpointError(f"{name} has no folder {part}/", remedy="Download the whole checkpoint")
    for part in WEIGHTS:
        require_weights(folder, part, allow_pickle)
    checkpoint = Checkpoint(
        id=id_,
        folder=folder,
        allow_pickle=allow_pickle,
        unet=_read_json(folder / "unet" / "config.json"),
        vae=_read_json(folder / "vae" / "config.json"),
        text_encoder=_read_json(folder / "text_encoder" / "config.json"),
        scheduler=_read_json(folder / "scheduler" / "scheduler_config.json"),
    )
    for file in ("vocab.json", "merges.txt"):
        if not (folder / "tokenizer" / file).is_file():
            raise CheckpointError(f"{name} has no tokenizer/{file}", remedy="Download the whole checkpoint")
    try:
        _require_supported(checkpoint)
        checkpoint.tokenizer()
        _ = checkpoint.vae_scale, checkpoint.sample_size, checkpoint.scaling_factor
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"a config of {name} has a value that cannot be: {error}", remedy="Get the checkpoint's configs again"
        ) from error
    return checkpoint


def _require_supported(checkpoint: Checkpoint) -> None:
    unet, vae = checkpoint.unet, checkpoint.vae
    kinds = {
        "unet": (unet.get("_class_name"), ("UNet2DConditionModel",)),
        "vae": (vae.get("_class_name"), ("AutoencoderKL", "AutoencoderTiny")),
        "text_encoder": ((checkpoint.text_encoder.get("architectures") or [None])[0], ("CLIPTextModel",)),
    }
    for part, (kind, known) in kinds.items():
        if kind not in known:
            raise CheckpointError(f"the {part} is {kind}", remedy=f"Supported: {', '.join(known)}")
    conditions = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
    for key in (*conditions, "time_cond_proj_dim"):
        if unet.get(key) is not None:
            raise CheckpointError(
                f"the unet has {key} {unet[key]!r}", remedy="Use a Stable Diffusion 1.x or 2.x checkpoint without it"
            )
    if "latent_channels" not in vae:
        raise CheckpointError("vae/config.json says no latent_channels", remedy="Download the whole checkpoint")
    latent = checkpoint.latent_channels
    supported = {latent: "text-to-image", 2 * latent: "editing", 2 * latent + 1: "inpainting"}
    if unet.get("in_channels") not in supported:
        listed = ", ".join(f"{channels} ({task})" for channels, task in supported.items())
        raise CheckpointError(f"the unet has in_channels {unet.get('in_channels')}", remedy=f"Supported: {listed}")
    if unet.get("out_channels", 4) != latent:
        raise CheckpointError(
            f"the unet has out_channels {unet.get('out_channels')}, the latents have {latent}",
            remedy="Use a checkpoint that predicts noise or v alone, without a variance",
        )
    if (vae.get("in_channels", 3), vae.get("out_channels", 3)) != (3, 3):
        raise CheckpointError(
            f"the vae goes from {vae.get('in_channels')} to {vae.get('out_channels')} channels",
            remedy="Use one for RGB pictures",
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
    if not math.isfinite(checkpoint.scaling_factor) or checkpoint.scaling_factor <= 0:
        raise CheckpointError(f"the VAE's scaling_factor is {checkpoint.scaling_factor}", remedy="Mend vae/config.json")


def _read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise CheckpointError(f"{path.parent.name}/{path.name} is missing", remedy="Download the whole checkpoint")
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.parent.name}/{path.name} cannot be read: {error}", remedy="Get it again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name} is not a JSON object", remedy="Get it again")
    return value
