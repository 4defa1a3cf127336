"""Checkpoints that are one file in the original key layout (CompVis' latent-diffusion), as most fine-tunes are found.

The file's tensors say what its networks are: configs are inferred from their shapes and nothing is fetched. diffusers'
own converters rename the weights. What comes of it is a folder in diffusers' format, which is exported like any other.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.bundles.store import BUILT_IN
from pixrt.errors import CheckpointError
from pixrt_export.hub import CONVERT, PICKLES
from pixrt_export.options import SingleFilePrediction as Prediction

if TYPE_CHECKING:
    from torch import Tensor

_UNET, _EMA = "model.diffusion_model.", "model_ema."
_FIRST = f"{_UNET}input_blocks.0.0.weight"
_VAE = "first_stage_model."
_CLIP, _OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
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
_HEADS, _HEAD_WIDTH = 8, 64  # of attentions: Stable Diffusion 1 has so many, 2 has so wide ones
_CLIP_IDS, _CLIP_TOKENS = 49408, 77


def is_file(path: Path) -> bool:
    """Whether there is a file; not for what cannot be a path at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def unpacked(file: Path, *, allow_pickle: bool, ema: bool, prediction: Prediction | None) -> Iterator[Path]:
    """A folder in diffusers' format with what a file holds; it is gone afterwards.

    `ema` takes the averaged weights if there are any; `prediction` is what the UNet predicts, found out if not given.
    Raises CheckpointError.
    """
    folder = Path(tempfile.mkdtemp(prefix="pixrt-checkpoint-"))
    try:
        with _tensors(file, allow_pickle) as tensors:
            _unpack(file, tensors, folder, ema=ema, prediction=prediction)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _tensors(file: Path, allow_pickle: bool) -> Iterator[Mapping[str, "Tensor"]]:
    """A file's tensors, each read when it is asked for. Raises CheckpointError."""
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            opened = safe_open(file, "pt")
        except SafetensorError as error:
            raise CheckpointError(f"{file} is no safetensors file: {error}", remedy="Download it again") from error
        with opened as tensors:
            yield _Lazy(tensors)
        return
    if file.suffix not in PICKLES:
        raise CheckpointError(f"{file} is no checkpoint", remedy="Give a folder, a .safetensors file, or a .ckpt")
    if not allow_pickle:
        raise CheckpointError(f"{file} is a pickle", remedy=CONVERT)
    import torch

    try:
        read = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler raises many unrelated types
        raise CheckpointError(
            f"{file} cannot be read with PyTorch's weights_only loading: {str(error).strip()[:200]}", remedy=CONVERT
        ) from error
    read = read.get("state_dict", read) if isinstance(read, dict) else {}
    yield {name: value for name, value in read.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}


class _Lazy(Mapping[str, "Tensor"]):
    """An opened safetensors file as a mapping."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self._names = dict.fromkeys(opened.keys())

    def __getitem__(self, name: str) -> "Tensor":
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._opened.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        if name not in self._names:
            raise KeyError(name)
        return tuple(self._opened.get_slice(name).get_shape())


def _unpack(
    file: Path, tensors: Mapping[str, "Tensor"], folder: Path, *, ema: bool, prediction: Prediction | None
) -> None:
    _require_original(file, tensors)
    if ema and not any(name.startswith(_EMA) for name in tensors):
        raise CheckpointError(f"{file} holds no averaged weights", remedy="Leave out --ema")
    from diffusers.loaders import single_file_utils as convert

    is_second = any(name.startswith(_OPEN_CLIP) for name in tensors)
    try:
        unet, vae, text = _unet_config(tensors, is_second), _vae_config(tensors), _text_config(tensors, is_second)
        _write(folder / "vae", vae, convert.convert_ldm_vae_checkpoint(_only(tensors, _VAE), vae))
        _write(folder / "text_encoder", text, _text_weights(tensors, text, is_second))
        chosen = _only(tensors, _UNET, _EMA) if ema else _only(tensors, _UNET)
        _write(folder / "unet", unet, convert.convert_ldm_unet_checkpoint(chosen, unet, extract_ema=ema))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is in no layout that is known: {type(error).__name__} {str(error)[:200]}", remedy=CONVERT
        ) from error
    if prediction is None:
        prediction = _found_prediction(folder / "unet", unet, text) if is_second else "epsilon"
    unet["sample_size"] = 96 if prediction == "v_prediction" else 64
    _write_json(folder / "unet" / "config.json", unet)
    _write_json(folder / "scheduler" / "scheduler_config.json", _scheduler_config(prediction))
    _write_tokenizer(folder / "tokenizer", pad="!" if is_second else "<|endoftext|>")
    _write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})


def _require_original(file: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Raise CheckpointError for what is no whole Stable Diffusion 1.x or 2.x, with what it is instead."""
    has = {prefix: any(name.startswith(prefix) for name in tensors) for prefix in (_VAE, _CLIP, _OPEN_CLIP)}
    if _FIRST in tensors and has[_VAE] and (has[_CLIP] or has[_OPEN_CLIP]):
        return
    for pattern, name in _OTHERS:
        if any(re.match(pattern, tensor) for tensor in tensors):
            raise CheckpointError(f"{file} is {name}", remedy="Give a whole Stable Diffusion 1.x or 2.x checkpoint")
    parts = {"a UNet": _FIRST in tensors, "a VAE": has[_VAE], "a text encoder": has[_CLIP] or has[_OPEN_CLIP]}
    missing = ", ".join(part for part, there in parts.items() if not there)
    raise CheckpointError(f"{file} is without {missing}", remedy="Give a whole Stable Diffusion 1.x or 2.x checkpoint")


def _only(tensors: Mapping[str, "Tensor"], *prefixes: str) -> dict[str, "Tensor"]:
    """Tensors in FP32, of one network: the others are not read."""
    return {name: tensors[name].float() for name in tensors if name.startswith(prefixes)}


def _shape(tensors: Mapping[str, "Tensor"], name: str) -> tuple[int, ...]:
    return tensors.shape(name) if isinstance(tensors, _Lazy) else tuple(tensors[name].shape)


def _count(tensors: Mapping[str, "Tensor"], pattern: str) -> int:
    """How many numbers stand in the place of the pattern's group, over all names."""
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def _unet_config(tensors: Mapping[str, "Tensor"], is_second: bool) -> dict[str, Any]:
    blocks = _count(tensors, rf"{re.escape(_UNET)}input_blocks\.(\d+)\.")
    downs = [number for number in range(blocks) if f"{_UNET}input_blocks.{number}.0.op.weight" in tensors]
    layers = downs[0] - 1 if downs else blocks - 1
    first = range(1, blocks, layers + 1)  # of each resolution
    channels = [_shape(tensors, f"{_UNET}input_blocks.{number}.0.out_layers.3.weight")[0] for number in first]

    def attends(number: int) -> str | None:
        stem = f"{_UNET}input_blocks.{number}.1."
        return next((name for name in tensors if name.startswith(stem) and name.endswith("attn2.to_k.weight")), None)

    attending = [attends(number) for number in first]
    context = next(name for name in attending if name is not None)
    depth = _count(tensors, rf"{re.escape(_UNET)}middle_block\.1\.transformer_blocks\.(\d+)\.")
    projection = f"{context.partition('transformer_blocks')[0]}proj_in.weight"
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": _shape(tensors, _FIRST)[1],
        "out_channels": _shape(tensors, f"{_UNET}out.2.weight")[0],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attending],
        "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attending)],
        "cross_attention_dim": _shape(tensors, context)[1],
        "attention_head_dim": [width // _HEAD_WIDTH for width in channels] if is_second else _HEADS,
        "transformer_layers_per_block": depth,
        "use_linear_projection": len(_shape(tensors, projection)) == 2,
    }


def _vae_config(tensors: Mapping[str, "Tensor"]) -> dict[str, Any]:
    resolutions = _count(tensors, rf"{re.escape(_VAE)}encoder\.down\.(\d+)\.")
    layers = _count(tensors, rf"{re.escape(_VAE)}encoder\.down\.0\.block\.(\d+)\.")
    stem = f"{_VAE}encoder.down."
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": 512,
        "in_channels": _shape(tensors, f"{_VAE}encoder.conv_in.weight")[1],
        "out_channels": _shape(tensors, f"{_VAE}decoder.conv_out.weight")[0],
        "latent_channels": _shape(tensors, f"{_VAE}post_quant_conv.weight")[0],
        "block_out_channels": [
            _shape(tensors, f"{stem}{number}.block.0.conv2.weight")[0] for number in range(resolutions)
        ],
        "layers_per_block": layers,
        "down_block_types": ["DownEncoderBlock2D"] * resolutions,
        "up_block_types": ["UpDecoderBlock2D"] * resolutions,
        "scaling_factor": 0.18215,
    }


def _text_config(tensors: Mapping[str, "Tensor"], is_second: bool) -> dict[str, Any]:
    """Of CLIP; Stable Diffusion 2 takes the last layer but one of OpenCLIP's, so the last is left out."""
    if is_second:
        tokens, layer = (
            f"{_OPEN_CLIP}token_embedding.weight",
            rf"{re.escape(_OPEN_CLIP)}transformer\.resblocks\.(\d+)\.",
        )
        inner = f"{_OPEN_CLIP}transformer.resblocks.0.mlp.c_fc.weight"
    else:
        stem = f"{_CLIP}text_model." if any(name.startswith(f"{_CLIP}text_model.") for name in tensors) else _CLIP
        tokens, layer = f"{stem}embeddings.token_embedding.weight", rf"{re.escape(stem)}encoder\.layers\.(\d+)\."
        inner = f"{stem}encoder.layers.0.mlp.fc1.weight"
    ids, width = _shape(tensors, tokens)
    if ids != _CLIP_IDS:
        raise ValueError(f"the text encoder knows {ids} tokens, CLIP has {_CLIP_IDS}")
    layers = _count(tensors, layer)
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": ids,
        "hidden_size": width,
        "intermediate_size": _shape(tensors, inner)[0],
        "num_hidden_layers": layers - 1 if is_second and layers > 1 else layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "hidden_act": "gelu" if is_second else "quick_gelu",
        "max_position_embeddings": _CLIP_TOKENS,
        "projection_dim": width,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _text_weights(tensors: Mapping[str, "Tensor"], config: Mapping[str, Any], is_second: bool) -> dict[str, "Tensor"]:
    from diffusers.loaders import single_file_utils as convert
    from transformers import CLIPTextConfig, CLIPTextModel

    if not is_second:
        weights = convert.convert_ldm_clip_checkpoint(_only(tensors, _CLIP))
        # The first releases of transformers had no "text_model." before them.
        return {
            name if name.startswith("text_model.") else f"text_model.{name}": each for name, each in weights.items()
        }
    layers = int(config["num_hidden_layers"])
    kept = {
        name: each
        for name, each in _only(tensors, _OPEN_CLIP).items()
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


def _scheduler_config(prediction: Prediction) -> dict[str, Any]:
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
    """CLIP's, which all of them use, and which the built-in model brings along."""
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(BUILT_IN / "demo" / name, folder / name)
    _write_json(folder / "tokenizer_config.json", {"model_max_length": _CLIP_TOKENS, "pad_token": pad})
