"""The tensors of a single-file checkpoint, and what its networks are called in the original layout.

safetensors are read one by one, pickles by PyTorch's `weights_only` loading.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.errors import CheckpointError
from pixrt_export.hub import CONVERT, PICKLES

if TYPE_CHECKING:
    from torch import Tensor

UNET, EMA = "model.diffusion_model.", "model_ema."
VAE = "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
FIRST = f"{UNET}input_blocks.0.0.weight"


@contextmanager
def open_tensors(file: Path, allow_pickle: bool) -> Iterator[Mapping[str, "Tensor"]]:
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


def only(tensors: Mapping[str, "Tensor"], *prefixes: str) -> dict[str, "Tensor"]:
    """The tensors of one network: the others are not read."""
    return {name: tensors[name] for name in tensors if name.startswith(prefixes)}


def shape_of(tensors: Mapping[str, "Tensor"], name: str) -> tuple[int, ...]:
    """A tensor's shape, without reading it where that can be."""
    return tensors.shape(name) if isinstance(tensors, _Lazy) else tuple(tensors[name].shape)


def count(tensors: Mapping[str, "Tensor"], pattern: str) -> int:
    """How many numbers stand in the place of the pattern's group, over all names."""
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})
