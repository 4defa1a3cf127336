"""Where a checkpoint's files are, a folder here or the hub, and which of them are its weights. Imports no PyTorch."""

import re
from collections.abc import Iterable
from pathlib import Path

from pixrt.errors import CheckpointError

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_HUB_ANSWERS_IN_S = 15.0
CONVERT = (
    "Convert it once with diffusers: `StableDiffusionInstructPix2PixPipeline.from_single_file(...)` or"
    " `.from_pretrained(...)`, then `.save_pretrained(FOLDER, safe_serialization=True)`; or pass --allow-pickle to read"
    " .bin weights with PyTorch's weights_only loading"
)


def find_checkpoint(name: str, allow_pickle: bool) -> tuple[Path, str]:
    """A checkpoint's folder and what to call it. Raises CheckpointError where neither the disk nor the hub has it."""
    folder = Path(name)
    try:
        local = folder.exists()
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name[:60]!r} is no path: {error}", remedy="Give a diffusers folder, or a hub id"
        ) from error
    if folder.is_file():
        raise CheckpointError(f"{name} is a single file", remedy=CONVERT)
    id_ = folder.resolve().name if local else name
    if not local:
        folder = _download(name, allow_pickle)
    return folder, id_


def _download(name: str, allow_pickle: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        info = HfApi().repo_info(name, timeout=_HUB_ANSWERS_IN_S)
        files = [file.rfilename for file in info.siblings or ()]
        return Path(snapshot_download(name, allow_patterns=wanted_files(files, allow_pickle)))
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
    wanted = ["model_index.json"]
    for part in PARTS:
        own = [file for file in files if file.startswith(f"{part}/") and file.count("/") == 1]
        wanted += [file for file in own if file.endswith((".json", ".txt"))]
        variants = {file: _variant_of(file.split("/")[1], part) for file in own}
        best = min((v for v in variants.values() if v is not None), key=_preference, default=None)
        if best is not None:
            wanted += [file for file, variant in variants.items() if variant == best]
        elif allow_pickle:
            wanted += [file for file in own if file.endswith(".bin")]
    return wanted


def best_variant(folder: Path, part: str) -> str | None:
    """Which variant of a part's weights to load, in diffusers' sense: None is the plain one, and comes first."""
    variants = (_variant_of(path.name, part) for path in (folder / part).iterdir())
    return min((v for v in variants if v is not None), key=_preference, default="") or None


def require_weights(folder: Path, part: str, allow_pickle: bool) -> None:
    """Raise CheckpointError unless a part has weights that may be read."""
    stem = WEIGHTS[part]
    if any(_variant_of(path.name, part) is not None for path in (folder / part).iterdir()):
        return
    pickles = sorted(path.name for path in (folder / part).iterdir() if path.suffix in PICKLES)
    if pickles and not allow_pickle:
        raise CheckpointError(f"the weights of {part} are a pickle ({pickles[0]})", remedy=CONVERT)
    if not pickles:
        raise CheckpointError(f"{part}/ has no {stem}.safetensors", remedy="Download the whole checkpoint")


def _variant_of(name: str, part: str) -> str | None:
    """The variant that a safetensors file of weights belongs to, "" for the plain one; None for any other file."""
    match = (
        re.fullmatch(rf"{WEIGHTS[part]}(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors", name) if part in WEIGHTS else None
    )
    return (match.group(1) or "") if match else None


def _preference(variant: str) -> tuple[bool, bool, str]:
    return variant != "", variant != "fp16", variant
