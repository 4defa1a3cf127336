"""Reading a diffusers-format checkpoint: its configs, its weights' identity, and each network as a PyTorch module.

Nothing is assumed of the architecture that the configs do not say. Pickles are not read, unless asked for, and then
only with PyTorch's `weights_only` loading.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pixrt.bundles.instructions import INSTRUCTIONS_NAME, fault_of_instructions
from pixrt.bundles.manifest import Prediction, TokenizerSpec
from pixrt.bundles.store import sha256_file
from pixrt.errors import CheckpointError
from pixrt_export.hub import PARTS, PICKLES, best_weights, read_json
from pixrt_export.tokenizer import read_spec


@dataclass(frozen=True, slots=True)
class OtherVae:
    """A VAE in the place of a checkpoint's own, whose `known_factor` was `replaced_factor`."""

    id: str
    folder: Path
    replaced_factor: float | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's folder and its configs, checked for what the exporter can do.

    `unet`, `vae`, `text_encoder` and `scheduler` are the JSON configs as they are; with `other_vae`, `vae` is that
    one's. `without_source`: the UNet is to lose the channels of an edit's source. `origin`: the single file that the
    folder was unpacked from, and how. `notes` grows while networks are loaded: what a user should know of them.
    """

    id: str
    folder: Path
    allow_pickle: bool
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]
    other_vae: OtherVae | None = None
    without_source: bool = False
    origin: tuple[Path, str] | None = None
    notes: list[str] = field(default_factory=list, compare=False)

    @property
    def in_channels(self) -> int:
        """Channels that the exported UNet takes."""
        return self.latent_channels if self.without_source else int(self.unet["in_channels"])

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
        """What diffusers divides latents by before this VAE decodes them."""
        return float(self.vae.get("scaling_factor") or (1.0 if self.vae_kind == "AutoencoderTiny" else 0.18215))

    @property
    def known_factor(self) -> float | None:
        """The scaling factor that the UNet was trained with; None if only an AutoencoderTiny's 1.0 says it."""
        if self.other_vae is not None and self.other_vae.replaced_factor is not None:
            return self.other_vae.replaced_factor
        return None if self.vae_kind == "AutoencoderTiny" and self.scaling_factor == 1.0 else self.scaling_factor

    @property
    def prediction(self) -> Prediction:
        """What the UNet predicts."""
        return "v" if self.scheduler.get("prediction_type") == "v_prediction" else "epsilon"

    @property
    def instructions(self) -> dict[str, tuple[str, ...]]:
        """Sentences that it was taught to edit by, by kind; empty where nobody says. Raises CheckpointError."""
        said = {} if self.without_source else read_json(self.folder / INSTRUCTIONS_NAME, required=False)
        if fault := fault_of_instructions(said):
            raise CheckpointError(f"{INSTRUCTIONS_NAME} of {self.id}: {fault}", remedy="Mend it, or take it away")
        return {kind: tuple(sentences) for kind, sentences in said.items()}

    def folder_of(self, part: str) -> Path:
        """Where a part's files are."""
        return self.other_vae.folder if part == "vae" and self.other_vae else self.folder / part

    def called(self, part: str) -> str:
        """A part's name in errors."""
        return f"{part} of {self.other_vae.id if part == 'vae' and self.other_vae else self.id}"

    def tokenizer(self) -> TokenizerSpec:
        """The tokenizer's special and added tokens; its two files are named as in a bundle."""
        positions = int(self.text_encoder.get("max_position_embeddings", 77))
        return read_spec(self.folder_of("tokenizer"), positions)

    def sha256(self) -> str:
        """SHA-256 over the names and contents of the configs and weights, in the order of their names.

        It is another one without the source. Of a single file it is over that file, and how it was unpacked.
        """
        digest = hashlib.sha256(b"without source\0" if self.without_source else b"")
        try:
            if self.origin is not None:
                single, how = self.origin
                digest.update(how.encode() + b"\0" + bytes.fromhex(sha256_file(single)))
            for part, name in sorted(self._identity_files()):
                digest.update(f"{part}/{name}".encode() + b"\0")
                with (self.folder_of(part) / name).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise CheckpointError(f"the checkpoint cannot be read: {error}", remedy="Check its permissions") from error
        return digest.hexdigest()

    def load(self, part: str) -> Any:
        """The network of `part` as a PyTorch module in FP32, in evaluation mode.

        Raises CheckpointError if weights are missing, do not fit the config or hold values that are not finite.
        """
        import diffusers
        import torch
        import transformers

        classes = {
            "unet": diffusers.UNet2DConditionModel,
            "vae": getattr(diffusers, self.vae_kind),
            "text_encoder": transformers.CLIPTextModel,
        }
        variant, safetensors = best_weights(self.folder_of(part), part, self.allow_pickle)
        try:
            module, found = classes[part].from_pretrained(
                self.folder_of(part),
                torch_dtype=torch.float32,
                use_safetensors=safetensors,
                variant=variant,
                output_loading_info=True,
            )
        except Exception as error:  # the libraries raise many unrelated types on configs and weights
            raise_if_out_of_memory(error)
            raise CheckpointError(
                f"the {self.called(part)} cannot be loaded: {str(error).strip()[:300]}",
                remedy="Check that its config and its weights belong together",
            ) from error
        # transformers fills what is missing with random values, and says so only here.
        absent = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
        if absent:
            raise CheckpointError(
                f"the weight {absent[0]} of the {self.called(part)} is missing or of another shape",
                remedy="Get the checkpoint again",
            )
        # Of old files of transformers: a table of the numbers from 0 to 76.
        unused = sorted(key for key in found["unexpected_keys"] if not key.endswith("position_ids"))
        if unused:
            self.notes.append(f"of the {self.called(part)} {len(unused)} weights are not used, such as {unused[0]}")
        for name, values in module.named_parameters():
            if not bool(torch.isfinite(values).all()):
                raise CheckpointError(
                    f"the weight {name} of the {self.called(part)} holds values that are not finite",
                    remedy="Get the checkpoint again",
                )
        return module.eval()

    def _identity_files(self) -> Iterator[tuple[str, str]]:
        own = PARTS if self.origin is None else ()
        for part in (*own, *(["vae"] if not own and self.other_vae else [])):
            yield from (
                (part, path.name)
                for path in self.folder_of(part).iterdir()
                if path.suffix in (".json", ".safetensors", ".txt", *(PICKLES if self.allow_pickle else ()))
            )


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is what PyTorch or Python say if memory is short."""
    # PyTorch's own type is told by its name: importing it here would take PyTorch's time to read a config.
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return short or "DefaultCPUAllocator" in str(error)


def raise_if_out_of_memory(error: Exception) -> None:
    """Raise CheckpointError if memory is short; else do nothing."""
    if is_out_of_memory(error):
        raise CheckpointError("the machine ran out of memory", remedy="Use one with more memory") from error
