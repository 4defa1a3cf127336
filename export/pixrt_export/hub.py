"""Where a checkpoint's files are, a folder here or the hub, and which of them are its weights. Imports no PyTorch."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pixrt.errors import CheckpointError
from pixrt.reading import read_json as parse_file

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_HUB_ANSWERS_IN_S = 15.0
_CONVERT = (
    "Convert it once with diffusers: `{}.from_single_file(...)` or `.from_pretrained(...)`, then"
    " `.save_pretrained(FOLDER, safe_serialization=True)`; or pass --allow-pickle to read .bin weights with PyTorch's"
    " weights_only loading"
)
CONVERT = _CONVERT.format("StableDiffusionInstructPix2PixPipeline")
CONVERT_VAE = _CONVERT.format("AutoencoderKL")


def find_checkpoint(name: str, allow_pickle: bool) -> tuple[Path, str]:
    """A checkpoint's folder and what to call it. Raises CheckpointError if neither the disk nor the hub has it."""
    return _find(name, lambda files: wanted_files(files, allow_pickle), CONVERT)


def find_vae(name: str, allow_pickle: bool) -> tuple[Path, str]:
    """The folder of a VAE, and what to call it; `name` holds only the VAE, or is a checkpoint. Raises CheckpointError.

    Of a checkpoint on the hub only the VAE is downloaded.
    """
    found, id_ = _find(name, lambda files: wanted_vae_files(files, allow_pickle), CONVERT_VAE)
    for folder in (found / "vae", found):
        if (folder / "config.json").is_file():
            return folder, id_
    raise CheckpointError(
        f"{name} holds no VAE: it has neither config.json nor vae/config.json",
        remedy="Give the folder that a VAE's or a pipeline's `save_pretrained` wrote, or a hub id",
    )


def read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """A config; empty if it is missing and not `required`. Raises CheckpointError."""
    if not path.is_file():
        if required:
            raise CheckpointError(f"{path.parent.name}/{path.name} is missing", remedy="Download the whole checkpoint")
        return {}
    value = parse_file(path, refuse=lambda problem: CheckpointError(problem, remedy="Get it again"))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name} is not a JSON object", remedy="Get it again")
    return value


Wanted = Callable[[Sequence[str]], list[str]]
"""Which of a hub repository's files are to be downloaded."""


def _find(name: str, wanted: Wanted, convert: str) -> tuple[Path, str]:
    folder = Path(name)
    try:
        local = folder.exists()
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name[:60]!r} is no path: {error}", remedy="Give a diffusers folder, or a hub id"
        ) from error
    if folder.is_file():
        raise CheckpointError(f"{name} is a single file", remedy=convert)
    id_ = folder.resolve().name if local else name
    if not local:
        folder = _download(name, wanted)
    return folder, id_


def _download(name: str, wanted: Wanted) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        info = HfApi().repo_info(name, timeout=_HUB_ANSWERS_IN_S)
        files = [file.rfilename for file in info.siblings or ()]
        return Path(snapshot_download(name, allow_patterns=wanted(files)))
    except HFValidationError as error:
        raise CheckpointError(
            f"{name!r} is neither a folder nor a hub id", remedy="Give a diffusers folder, or a hub id like OWNER/NAME"
        ) from error
    except Exception as error:  # offline, unknown or private: the hub's clients raise many unrelated types
        raise CheckpointError(
            f"{name!r} is no folder here, and the hub did not give it ({type(error).__name__})",
            remedy="Download the checkpoint on a machine that reaches the hub, and pass its folder",
        ) from error


def wanted_files(files: Iterable[str], allow_pickle: bool) -> list[str]:
    """What of a hub repository's files an export reads: configs, tokenizer, and of each part one set of weights."""
    every = list(files)
    return ["model_index.json", *(file for part in PARTS for file in _wanted_in(f"{part}/", part, every, allow_pickle))]


def wanted_vae_files(files: Iterable[str], allow_pickle: bool) -> list[str]:
    """What of a hub repository's files is its VAE, be it a checkpoint's or a VAE's own."""
    every = list(files)
    return _wanted_in("vae/" if "vae/config.json" in every else "", "vae", every, allow_pickle)


def _wanted_in(folder: str, part: str, files: Sequence[str], allow_pickle: bool) -> list[str]:
    names = {file: file.removeprefix(folder) for file in files if file.startswith(folder)}
    own = {file: name for file, name in names.items() if "/" not in name}
    wanted = [file for file in own if file.endswith((".json", ".txt"))]
    variants = {file: _variant_of(name, part) for file, name in own.items()}
    best = min((v for v in variants.values() if v is not None), key=_preference, default=None)
    if best is not None:
        wanted += [file for file, variant in variants.items() if variant == best]
    elif allow_pickle:
        wanted += [file for file in own if file.endswith(".bin")]
    return wanted


def best_variant(folder: Path, part: str) -> str | None:
    """Which variant of the weights in a part's folder to load, in diffusers' sense: None is the plain one, first."""
    variants = (_variant_of(path.name, part) for path in folder.iterdir())
    return min((v for v in variants if v is not None), key=_preference, default="") or None


def require_weights(folder: Path, part: str, called: str, allow_pickle: bool, convert: str = CONVERT) -> None:
    """Raise CheckpointError unless a part's folder has weights that may be read; `called` names the part."""
    if any(_variant_of(path.name, part) is not None for path in folder.iterdir()):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles and not allow_pickle:
        raise CheckpointError(f"the weights of the {called} are a pickle ({pickles[0]})", remedy=convert)
    if not pickles:
        raise CheckpointError(
            f"the {called} has no {WEIGHTS[part]}.safetensors", remedy="Download the whole checkpoint"
        )


def _variant_of(name: str, part: str) -> str | None:
    """The variant that a safetensors file of weights belongs to, "" for the plain one; None for any other file."""
    match = (
        re.fullmatch(rf"{WEIGHTS[part]}(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors", name) if part in WEIGHTS else None
    )
    return (match.group(1) or "") if match else None


def _preference(variant: str) -> tuple[bool, bool, str]:
    return variant != "", variant != "fp16", variant
