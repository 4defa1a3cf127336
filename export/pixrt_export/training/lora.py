"""Learning a LoRA (arXiv:2106.09685): low-rank changes of the attention's weights, saved in diffusers' format."""

import shutil
from pathlib import Path

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError

from pixrt.errors import OutputError
from pixrt_export.training.edit import EditNetwork
from pixrt_export.training.networks import freeze
from pixrt_export.training.options import LoraOptions

FILE = "pytorch_lora_weights.safetensors"
TARGETS = {
    "attention": ["to_q", "to_k", "to_v", "to_out.0"],
    "cross_attention": ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"],
}
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


def add_lora(network: EditNetwork, options: LoraOptions) -> None:
    """Freeze the network and put adapters beside its attention's weights; they change nothing until trained."""
    freeze(network)
    network.unet.add_adapter(_config(options, TARGETS[options.targets]))
    if options.train_text_encoder:
        network.text_encoder.add_adapter(_config(options, TEXT_TARGETS))


def save_lora(network: EditNetwork, folder: Path) -> Path:
    """Write the adapters to `folder/pytorch_lora_weights.safetensors`, as diffusers' `load_lora_weights` takes them.

    Raises OutputError.
    """
    adapted = {"unet": network.unet}
    if hasattr(network.text_encoder, "peft_config"):
        adapted["text_encoder"] = network.text_encoder
    aside = folder / ".lora.tmp"
    try:
        StableDiffusionLoraLoaderMixin.save_lora_weights(
            aside,
            **{f"{name}_lora_layers": get_peft_model_state_dict(part) for name, part in adapted.items()},
            **{
                f"{name}_lora_adapter_metadata": part.peft_config["default"].to_dict() for name, part in adapted.items()
            },
        )
        (aside / FILE).replace(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {folder / FILE}: {error}", remedy="Free some space and start again") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder / FILE


def _config(options: LoraOptions, targets: list[str]) -> LoraConfig:
    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.lora_dropout,
        init_lora_weights="gaussian",
        target_modules=targets,
    )
