"""Learning a LoRA (arXiv:2106.09685): low-rank changes of the attention's weights, saved in diffusers' format."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError

from pixrt.errors import OptionError, OutputError
from pixrt.files import atomic_write
from pixrt.folders import temporary_folder
from pixrt.lora.scales import METADATA_KEY
from pixrt.reading import read_text
from pixrt_export.training.edit import EditNetwork, Prior
from pixrt_export.training.options import LoraOptions

FILE = "pytorch_lora_weights.safetensors"
_MOST_PRIOR_BYTES = 16 << 20
TARGETS = {
    "attention": ["to_q", "to_k", "to_v", "to_out.0"],
    "cross_attention": ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"],
}
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


def add_lora(network: EditNetwork, options: LoraOptions) -> None:
    """Freeze the network and put adapters beside its attention's weights; they change nothing until trained."""
    network.requires_grad_(False)
    network.unet.add_adapter(_config(options, TARGETS[options.targets]))
    if options.train_text_encoder:
        network.text_encoder.add_adapter(_config(options, TEXT_TARGETS))


def lora_prior(network: EditNetwork, options: LoraOptions, encode: Callable[[str], Sequence[int]]) -> Prior | None:
    """What is to stay as it was without the adapters; None if the options name no instructions.

    Raises OptionError if their file cannot be read, or is empty.
    """
    if not options.prior:
        return None

    def refuse(problem: str) -> OptionError:
        return OptionError(f"prior cannot be used: {problem}", remedy="Give a text file")

    lines = read_text(options.prior, _MOST_PRIOR_BYTES, refuse).splitlines()
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise OptionError(f"prior {options.prior} holds no instructions", remedy="Write one a line")

    def before(sample: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        adapted = [part for part in (network.unet, network.text_encoder) if hasattr(part, "peft_config")]
        for part in adapted:
            part.disable_adapters()
        try:
            with torch.no_grad():
                prediction: torch.Tensor = network(sample, timesteps, ids)
                return prediction
        finally:
            for part in adapted:
                part.enable_adapters()

    return Prior(torch.tensor([encode(text) for text in texts]), options.prior_share, before)


def save_lora(network: EditNetwork, folder: Path) -> Path:
    """Write the adapters to `folder/pytorch_lora_weights.safetensors`, as diffusers' `load_lora_weights` takes them.

    Raises OutputError.
    """
    adapted = {"unet": network.unet}
    if hasattr(network.text_encoder, "peft_config"):
        adapted["text_encoder"] = network.text_encoder
    try:
        with temporary_folder(folder) as aside:
            StableDiffusionLoraLoaderMixin.save_lora_weights(
                aside,
                **{f"{name}_lora_layers": get_peft_model_state_dict(part) for name, part in adapted.items()},
                **{
                    f"{name}_lora_adapter_metadata": part.peft_config["default"].to_dict()
                    for name, part in adapted.items()
                },
            )
            with atomic_write(folder / FILE) as file:
                file.write(_ordered((aside / FILE).read_bytes()))
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {folder / FILE}: {error}", remedy="Free some space and start again") from error
    return folder / FILE


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in order: equal trainings write equal files.

    The library writes metadata, and peft its sets of names, in another order each time.
    """
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    said = header.pop("__metadata__", {})
    if METADATA_KEY in said:
        config = {
            name: sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
            for name, value in json.loads(said[METADATA_KEY]).items()
        }
        said[METADATA_KEY] = json.dumps(config, indent=2, sort_keys=True)
    text = json.dumps({"__metadata__": dict(sorted(said.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[begin:]


def _config(options: LoraOptions, targets: list[str]) -> LoraConfig:
    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.lora_dropout,
        init_lora_weights="gaussian",
        target_modules=targets,
    )
