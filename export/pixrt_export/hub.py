"""Where a checkpoint's files are, a folder here or the hub, and which of them are its weights. Imports no PyTorch."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixrt.bundles.instructions import INSTRUCTIONS_NAME
from pixrt.errors import CheckpointError
from pixrt.reading import read_json as parse_file
from pixrt.reading import read_text
from pixrt_export.download import Plan, Wanted, download

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_PICKLED = WEIGHTS | {"text_encoder": "pytorch_model"}
_MOST_REF_BYTES = 1 << 10
_CONVERT = (
    "Convert it once with diffusers: `{}.from_single_file(...)` or `.from_pretrained(...)`, then"
    " `.save_pretrained(FOLDER, safe_serialization=True)`; or pass --allow-pickle to read .bin weights with PyTorch's"
    " weights_only loading"
)
CONVERT = _CONVERT.format("StableDiffusionInstructPix2PixPipeline")
CONVERT_VAE = _CONVERT.format("AutoencoderKL")


def find_checkpoint(name: str, allow_pickle: bool, on_plan: Plan = lambda files, size: None) -> tuple[Path, str]:
    """A checkpoint's folder and what to call it; `on_plan`: see `download`.

    Raises CheckpointError if neither the disk nor the hub has it.
    """
    return _find(name, lambda files: wanted_files(files, allow_pickle), CONVERT, on_plan)


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
    value = parse_file(path, refuse=_unreadable)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name} is not a JSON object", remedy="Get it again")
    return value


def _unreadable(problem: str) -> CheckpointError:
    return CheckpointError(problem, remedy="Get it again")


def _find(name: str, wanted: Wanted, convert: str, on_plan: Plan = lambda files, size: None) -> tuple[Path, str]:
    folder = Path(name)
    try:
        local = folder.exists()
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name[:60]!r} is no path: {error}", remedy="Give a diffusers folder, or a hub id"
        ) from error
    if folder.is_file():
        raise CheckpointError(f"{name} is a single file", remedy=convert)
    if not local:
        return download(name, wanted, on_plan), name
    folder = _snapshot_of(folder)
    return folder, _called(folder.resolve())


def _snapshot_of(folder: Path) -> Path:
    """The snapshot in a repository's folder of the hub's cache: that of its main branch; else the folder itself."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir() or (folder / "unet").exists():
        return folder
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    if (folder / "refs" / "main").is_file():
        main = read_text(folder / "refs" / "main", _MOST_REF_BYTES, _unreadable).strip()
        found = [path for path in found if path.name == main] or found
    if len(found) != 1:
        raise CheckpointError(
            f"{folder} holds {len(found)} snapshots, and its main branch names none of them",
            remedy="Give the folder of one: snapshots/...",
        )
    return found[0]


def _called(folder: Path) -> str:
    """What to call a checkpoint in a folder: of a snapshot in the hub's cache, its repository."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return folder.name


def wanted_files(files: Iterable[str], allow_pickle: bool) -> list[str]:
    """What of a hub repository's files an export reads: configs, tokenizer, and of each part one set of weights."""
    every = list(files)
    said = [file for file in every if file == INSTRUCTIONS_NAME]
    return [
        "model_index.json",
        *said,
        *(file for part in PARTS for file in _wanted_in(f"{part}/", part, every, allow_pickle)),
    ]


def wanted_vae_files(files: Iterable[str], allow_pickle: bool) -> list[str]:
    """What of a hub repository's files is its VAE, be it a checkpoint's or a VAE's own."""
    every = list(files)
    return _wanted_in("vae/" if "vae/config.json" in every else "", "vae", every, allow_pickle)


def _wanted_in(folder: str, part: str, files: Sequence[str], allow_pickle: bool) -> list[str]:
    names = {file: file.removeprefix(folder) for file in files if file.startswith(folder)}
    own = {file: name for file, name in names.items() if "/" not in name}
    wanted = [file for file in own if file.endswith((".json", ".txt"))]
    best = _best(own.values(), part, allow_pickle)
    return wanted + [file for file, name in own.items() if best is not None and _set_of(name, part) == best]


def best_weights(folder: Path, part: str, allow_pickle: bool) -> tuple[str | None, bool]:
    """Which weights of a part's folder to load: the variant in diffusers' sense, and whether they are safetensors.

    Those come before pickles, the plain variant, None, before others.
    """
    best = _best((path.name for path in folder.iterdir()), part, allow_pickle)
    return (best.variant or None, best.safetensors) if best is not None else (None, not allow_pickle)


def require_weights(folder: Path, part: str, called: str, allow_pickle: bool, convert: str = CONVERT) -> None:
    """Raise CheckpointError unless a part's folder has weights that may be read; `called` names the part."""
    if _best((path.name for path in folder.iterdir()), part, allow_pickle) is not None:
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles and not allow_pickle:
        raise CheckpointError(f"the weights of the {called} are a pickle ({pickles[0]})", remedy=convert)
    raise CheckpointError(f"the {called} has no {WEIGHTS[part]}.safetensors", remedy="Download the whole checkpoint")


class _Set(NamedTuple):
    """One set of weights among a part's files."""

    safetensors: bool
    variant: str  # "" is the plain one


def _best(names: Iterable[str], part: str, allow_pickle: bool) -> _Set | None:
    sets = {found for name in names if (found := _set_of(name, part)) and (found.safetensors or allow_pickle)}
    return min(sets, key=lambda one: (not one.safetensors, one.variant != "", one.variant != "fp16", one), default=None)


def _set_of(name: str, part: str) -> _Set | None:
    """The set that a file of weights, or one of its shards, belongs to; None for any other file."""
    for safetensors, stems, suffix in ((True, WEIGHTS, "safetensors"), (False, _PICKLED, "bin")):
        match = re.fullmatch(rf"{stems.get(part, '(?!)')}(?:\.(\w+))?(?:-\d+-of-\d+)?(?:\.(\w+))?\.{suffix}", name)
        if match:
            return _Set(safetensors, match.group(1) or match.group(2) or "")
    return None
