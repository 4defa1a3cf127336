"""Reading a safetensors file into NumPy: https://github.com/huggingface/safetensors#format. Imports no library for it.

The package's own NumPy side cannot read bfloat16, in which many LoRA files are written. Nothing of the file is run, and
what its header claims must match its size first. Must not import anything of pixrt.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}


class MalformedTensors(ValueError):
    """The file is not what the format says; the text says where."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """An opened safetensors file: the header is read and checked, the tensors are not.

    Raises MalformedTensors for a header that cannot be, OSError if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._head = _read_head(file, size)
        header = _parse(self._head[8:])
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise MalformedTensors("its metadata is not text by name")
        self.metadata: dict[str, str] = metadata
        self._entries = [_entry(name, value, size - len(self._head)) for name, value in header.items()]

    @property
    def names(self) -> list[str]:
        """The tensors' names, in the header's order."""
        return [entry.name for entry in self._entries]

    def read(self) -> tuple[dict[str, Tensor], str]:
        """Every tensor (bfloat16 as float32), and the file's SHA-256 in hexadecimal.

        Raises MalformedTensors if the file has changed since its header was read, or has another type of number.
        """
        with self._path.open("rb") as file:
            data = file.read()
        if not data.startswith(self._head):
            raise MalformedTensors("it changed while it was read")
        return dict(self._tensors(data)), hashlib.sha256(data).hexdigest()

    def _tensors(self, data: bytes) -> Iterator[tuple[str, Tensor]]:
        for entry in self._entries:
            if len(self._head) + entry.stop > len(data):
                raise MalformedTensors(f"{entry.name} ends beyond the end of the file")
            raw = np.frombuffer(
                data, _DTYPES[entry.dtype], math.prod(entry.shape), len(self._head) + entry.start
            ).reshape(entry.shape)
            # A bfloat16 is the upper half of a float32.
            yield entry.name, (raw.astype("<u4") << 16).view("<f4") if entry.dtype == "BF16" else raw


def _read_head(file: BinaryIO, size: int) -> bytes:
    length = file.read(8)
    if len(length) < 8:
        raise MalformedTensors(f"it has {size} bytes, too few for a header")
    count = int.from_bytes(length, "little")
    if count > min(size - 8, MAX_HEADER_BYTES):
        raise MalformedTensors("it has no safetensors header")
    return length + file.read(count)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedTensors("it has no safetensors header") from error
    if not isinstance(header, dict):
        raise MalformedTensors("its header is not a JSON object")
    return header


def _entry(name: str, value: Any, size: int) -> _Entry:
    kind = value.get("dtype") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise MalformedTensors(f"{name} has the type {str(kind)[:40]!r}, which is none of {', '.join(_DTYPES)}")
    shape, offsets = _counts(name, value.get("shape")), _counts(name, value.get("data_offsets"))
    if len(offsets) != 2:
        raise MalformedTensors(f"{name} has no place in the file")
    start, stop = offsets
    if not start <= stop <= size:
        raise MalformedTensors(f"{name} stands at {start} to {stop} of {size} bytes of data: the file is cut off")
    if math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize != stop - start:
        raise MalformedTensors(f"{name} is {kind} {list(shape)} in {stop - start} bytes")
    return _Entry(name, kind, shape, start, stop)


def _counts(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
        raise MalformedTensors(f"{name} has no shape, or no place in the file")
    return tuple(value)
