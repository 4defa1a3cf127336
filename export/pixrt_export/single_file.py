"""Checkpoints that are one file in the original key layout (CompVis' latent-diffusion), as most fine-tunes are found.

The file's tensors say what its networks are: configs are inferred from their shapes and nothing is fetched. diffusers'
own converters rename the weights. What comes of it is a folder in diffusers' format, which is exported like any other.
"""

import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.bundles.store import BUILT_IN
from pixrt.errors import CheckpointError
from pixrt_export.hub import CONVERT
from pixrt_export.options import SingleFilePrediction as Prediction
from pixrt_export.single_configs import CLIP_TOKENS, scheduler_config, text_config, unet_config, vae_config
from pixrt_export.single_tensors import CLIP, EMA, FIRST, OPEN_CLIP, UNET, VAE, only, open_tensors

if TYPE_CHECKING:
    from torch import Tensor

# How files of other models begin, for words that say what they are.
_OTHERS: tuple[tuple[str, str], ...] = (
    (r"conditioner\.embedders\.", "Stable Diffusion XL"),
    (r"(model\.diffusion_model\.)?joint_blocks\.", "Stable Diffusion 3"),
    (r"(model\.diffusion_model\.)?double_blocks\.", "Flux"),
    (r"(model\.diffusion_model\.)?(adaln_single|caption_projection)\.", "PixArt"),
    (r"lora_(unet|te\d?)_|.*\.lora_(A|down)\.|unet\.|transformer\.", "a LoRA (give it with --lora)"),
    (r"control_model\.|controlnet", "a ControlNet"),
    (r"(down|mid|up)_blocks?\.", "a network in diffusers' layout (give the folder of its checkpoint)"),
    (r"(encoder|decoder)\.", "a VAE without the rest (give it with --vae)"),
)


def is_file(path: Path) -> bool:
    """Whether there is a file; not for what cannot be a path at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def unpacked(
    file: Path, *, allow_pickle: bool, ema: bool, prediction: Prediction | None, notes: list[str] | None = None
) -> Iterator[Path]:
    """A folder in diffusers' format with what a file holds; it is gone afterwards.

    `ema` takes the averaged weights if there are any; `prediction` is what the UNet predicts, found out if not given.
    `notes` is given what is left out. Raises CheckpointError.
    """
    folder = Path(tempfile.mkdtemp(prefix="pixrt-checkpoint-"))
    try:
        with open_tensors(file, allow_pickle) as tensors:
            _unpack(file, tensors, folder, ema=ema, prediction=prediction)
            if notes is not None:
                notes.extend(_left_out(tensors, ema))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(
    file: Path, tensors: Mapping[str, "Tensor"], folder: Path, *, ema: bool, prediction: Prediction | None
) -> None:
    _require_original(file, tensors)
    if ema and not any(name.startswith(EMA) for name in tensors):
        raise CheckpointError(f"{file} holds no averaged weights", remedy="Leave out --ema")
    from diffusers.loaders import single_file_utils as convert

    is_second = any(name.startswith(OPEN_CLIP) for name in tensors)
    try:
        unet, vae, text = unet_config(tensors, is_second), vae_config(tensors), text_config(tensors, is_second)
        _write(folder / "vae", vae, convert.convert_ldm_vae_checkpoint(only(tensors, VAE), vae))
        _write(folder / "text_encoder", text, _text_weights(tensors, text, is_second))
        chosen = only(tensors, UNET, EMA) if ema else only(tensors, UNET)
        _write(folder / "unet", unet, convert.convert_ldm_unet_checkpoint(chosen, unet, extract_ema=ema))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is in no layout that is known: {type(error).__name__} {str(error)[:200]}", remedy=CONVERT
        ) from error
    if prediction is None:
        prediction = _found_prediction(folder / "unet", unet, text) if is_second else "epsilon"
    unet["sample_size"] = 96 if prediction == "v_prediction" else 64
    _write_json(folder / "unet" / "config.json", unet)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler_config(prediction))
    _write_tokenizer(folder / "tokenizer", pad="!" if is_second else "<|endoftext|>")
    _write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})


def _require_original(file: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Raise CheckpointError for what is no whole Stable Diffusion 1.x or 2.x, with what it is instead."""
    has = {prefix: any(name.startswith(prefix) for name in tensors) for prefix in (VAE, CLIP, OPEN_CLIP)}
    if FIRST in tensors and has[VAE] and (has[CLIP] or has[OPEN_CLIP]):
        return
    for pattern, name in _OTHERS:
        if any(re.match(pattern, tensor) for tensor in tensors):
            raise CheckpointError(f"{file} is {name}", remedy="Give a whole Stable Diffusion 1.x or 2.x checkpoint")
    parts = {"a UNet": FIRST in tensors, "a VAE": has[VAE], "a text encoder": has[CLIP] or has[OPEN_CLIP]}
    missing = ", ".join(part for part, there in parts.items() if not there)
    raise CheckpointError(f"{file} is without {missing}", remedy="Give a whole Stable Diffusion 1.x or 2.x checkpoint")


def _left_out(tensors: Mapping[str, "Tensor"], ema: bool) -> Iterator[str]:
    """What a user should know of tensors that are in none of the networks."""
    averaged = sum(name.startswith(EMA) for name in tensors)
    if averaged > 1 and not ema:  # one counts the steps
        yield "the file holds averaged weights (EMA) too, which are not used: --ema takes them"
    others = Counter(name.split(".")[0] for name in tensors if not name.startswith((UNET, EMA, VAE, CLIP, OPEN_CLIP)))
    for part, number in others.items():
        if any(name.startswith(f"{part}.") for name in tensors):  # single ones are the noise schedule's
            yield f"the file holds {part} too ({number} tensors), which is not used"


def _text_weights(tensors: Mapping[str, "Tensor"], config: Mapping[str, Any], is_second: bool) -> dict[str, "Tensor"]:
    from diffusers.loaders import single_file_utils as convert
    from transformers import CLIPTextConfig, CLIPTextModel

    if not is_second:
        weights = convert.convert_ldm_clip_checkpoint(only(tensors, CLIP))
        # The first releases of transformers had no "text_model." before them.
        return {
            name if name.startswith("text_model.") else f"text_model.{name}": each for name, each in weights.items()
        }
    layers = int(config["num_hidden_layers"])
    kept = {
        name: each
        for name, each in only(tensors, OPEN_CLIP).items()
        if not (found := re.search(r"resblocks\.(\d+)\.", name)) or int(found[1]) < layers
    }
    import torch

    with torch.device("meta"):
        model = CLIPTextModel(CLIPTextConfig(**{k: v for k, v in config.items() if k != "architectures"}))
    weights = convert.convert_open_clip_checkpoint(model, kept)
    return {name: each for name, each in weights.items() if name.startswith("text_model.")}


def _found_prediction(folder: Path, config: Mapping[str, Any], text: Mapping[str, Any]) -> Prediction:
    """What a UNet of Stable Diffusion 2 predicts, which its tensors do not say: by running it, as AUTOMATIC1111 does.

    Near the end of the noise process a network that predicts v gives about the negative of what it sees.
    """
    import diffusers
    import torch

    channels = int(config["in_channels"])
    if channels != int(config["out_channels"]):
        return "epsilon"  # all that there are of inpainting and of editing
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    seen = torch.full((1, channels, 8, 8), 0.5)
    with torch.no_grad():
        said = unet(seen, 999, torch.zeros(1, 2, int(text["hidden_size"]))).sample
    return "v_prediction" if float((said - seen).mean()) < -1 else "epsilon"


def _write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, "Tensor"]) -> None:
    from safetensors.torch import save_file

    name = "model" if folder.name == "text_encoder" else "diffusion_pytorch_model"
    _write_json(folder / "config.json", config)
    whole = {key: value.contiguous() for key, value in weights.items()}
    save_file(whole, folder / f"{name}.safetensors", {"format": "pt"})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _write_tokenizer(folder: Path, pad: str) -> None:
    """CLIP's, which all of them use, and which the built-in models bring along."""
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(BUILT_IN / "shapes" / name, folder / name)
    _write_json(folder / "tokenizer_config.json", {"model_max_length": CLIP_TOKENS, "pad_token": pad})
