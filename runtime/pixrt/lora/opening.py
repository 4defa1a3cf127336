"""A LoRA as it lies on disk: a safetensors file, with peft's configuration beside it or not, or a folder of such files.

Must not import a backend.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pixrt.errors import LoraError
from pixrt.lora.keys import LayerChange, changes_of
from pixrt.lora.names import PEFT, Place, Shapes
from pixrt.lora.safetensors import MalformedTensors, Tensor, TensorFile
from pixrt.lora.scales import CONFIG
from pixrt.reading import open_regular, read_text

DIFFUSERS = "pytorch_lora_weights.safetensors"
_FILES = (DIFFUSERS, "adapter_model.safetensors")
_PARTS = ("unet", "text_encoder")  # peft saves each network to a folder of its own
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # PyTorch's zip, and bare pickles
_MARKS = ("lora", "lokr", "hada")
_MOST_CONFIG_BYTES = 1 << 20
_SAVE = "Give the file that diffusers' save_lora_weights wrote, pytorch_lora_weights.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """One LoRA: its name, its SHA-256 in hexadecimal, what it adds to a model's layers, and what a user should know.

    Of several files, or one with a configuration, the SHA-256 is that of theirs, one after the other.
    """

    name: str
    sha256: str
    changes: dict[Place, LayerChange]
    notes: tuple[str, ...]


def read_lora(path: Path, shapes: Shapes, target: str) -> Lora:
    """Read a LoRA and fit it to a model, whose name is `target`. Raises LoraError."""
    changes: dict[Place, LayerChange] = {}
    digests: list[str] = []
    notes: list[str] = []
    for file in _files_of(path):
        tensors, metadata, sha256 = _read(file)
        config = _config_beside(file) if any(PEFT in name for name in tensors) else ""
        read = changes_of(file.name, tensors, metadata, config, shapes, target)
        twice = next((place for place in read.changes if place in changes), None)
        if twice is not None:
            raise LoraError(f"{path} has the layer {twice[1]} twice", remedy="Give one of its files")
        changes.update(read.changes)
        notes.extend(read.notes)
        digests += [sha256, *([hashlib.sha256(config.encode()).hexdigest()] if config else [])]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    name = (path.name or path.resolve().name).encode(errors="replace").decode()  # it goes into metadata: Unicode
    return Lora(name, digest, changes, tuple(notes))


def _files_of(path: Path) -> list[Path]:
    """The file itself; in a folder those that diffusers and peft write. Raises LoraError if it has none."""
    try:
        if not path.is_dir():
            return [path]
        for name in _FILES:
            if (path / name).is_file():
                return [path / name]
        files = [path / part / name for part in _PARTS for name in _FILES if (path / part / name).is_file()]
        files = files or sorted(path.glob("*.safetensors"))[:2]
    except (OSError, ValueError) as error:
        raise LoraError(f"the LoRA {path} cannot be read: {error}", remedy="Check the path") from error
    if not files or (len(files) == 2 and files[0].parent == files[1].parent):
        what = f"several, such as {files[0].name}" if files else "none"
        raise LoraError(
            f"{path} is a folder with {what} where a LoRA's weights would be",
            remedy=f"Give a file, such as {DIFFUSERS}",
        )
    return files


def _read(path: Path) -> tuple[Mapping[str, Tensor], dict[str, str], str]:
    """The file's tensors, its metadata, and its SHA-256."""

    def refuse(problem: str) -> LoraError:
        return LoraError(f"the LoRA cannot be read: {problem}", remedy="Check the path")

    try:
        with open_regular(path, refuse) as opened:
            start = opened.read(9)
        # A safetensors file begins with the length of its header, which may look like anything, and a brace.
        if path.suffix.lower() in _PICKLES or (start.startswith(_PICKLE_STARTS) and start[8:] != b"{"):
            raise LoraError(
                f"{path} is a pickle, which can run any program when it is loaded, so it is not loaded",
                remedy="Convert it to safetensors where it came from",
            )
        file = TensorFile(path)
        # A whole checkpoint is not read for that.
        if not any(mark in name.lower() for name in file.names for mark in _MARKS):
            raise LoraError(f"{path} is not a LoRA: none of its {len(file.names)} tensors is a LoRA's", remedy=_SAVE)
        tensors, sha256 = file.read()
    except MalformedTensors as error:
        raise LoraError(f"{path} is not a safetensors file: {error}", remedy=_SAVE) from error
    except OSError as error:
        raise LoraError(f"the LoRA {path} cannot be read: {error.strerror}", remedy="Check the disk") from error
    return tensors, file.metadata, sha256


def _config_beside(path: Path) -> str:
    """peft's configuration beside a file, "" if there is none."""
    beside = path.parent / CONFIG
    if not beside.is_file():
        return ""
    return read_text(beside, _MOST_CONFIG_BYTES, lambda problem: LoraError(problem, remedy="Save the LoRA again"))
