"""Reading a safetensors file into NumPy: https://github.com/huggingface/safetensors#format. Imports no library for it.

The package's own NumPy side cannot read bfloat16, in which many LoRA files are written. Nothing of the file is run, and
what its header claims must hold first, as the package asks: tensors stand one behind the other and fill the file, so
that nobody can claim more than there is. A tensor is converted when it is asked for. Must not import anything of pixrt
but reading.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pixrt.reading import Malformed, open_regular, parse_json, read_regular

Tensor = NDArray[Any]

MAX_HEADER_BYTES = 16 << 20  # the format's own limit is 100 MB, and a header of 1,000 tensors has 0.2 MB
MAX_BYTES = 8 << 30
MAX_DIMENSIONS = 8
_LONGEST_NAME = 1000
_MOST_OFFSET = 1 << 62
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}
# Types of the format that no array of NumPy's can hold, and that no LoRA is in.
_NAMED = {
    **{"C64": "complex numbers", "F4": "4-bit floats", "F6_E2M3": "6-bit floats", "F6_E3M2": "6-bit floats"},
    "F8_E8M0": "8-bit exponents",
}


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

    Raises MalformedTensors for a header that cannot be, or a file that is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_regular(path, MalformedTensors) as file:
            size = os.fstat(file.fileno()).st_size
            self._head = _read_head(file, size)
        header = _parse(self._head[8:])
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise MalformedTensors("its metadata is not text by name")
        self.metadata: dict[str, str] = metadata
        self._entries = [_entry(name, value, size - len(self._head)) for name, value in header.items()]
        _require_whole(self._entries, size - len(self._head))

    @property
    def names(self) -> list[str]:
        """The tensors' names, in the header's order."""
        return [entry.name for entry in self._entries]

    @property
    def places(self) -> dict[str, tuple[tuple[int, ...], int, int]]:
        """Of every tensor its shape, its first byte in the file, and its length in bytes."""
        return {each.name: (each.shape, len(self._head) + each.start, each.stop - each.start) for each in self._entries}

    def read(self) -> tuple[Mapping[str, Tensor], str]:
        """Every tensor, converted when it is asked for, and the file's SHA-256 in hexadecimal.

        bfloat16 and FP8 come as float32. Raises MalformedTensors if the file has changed since its header was read.
        """
        data = read_regular(self._path, MAX_BYTES, MalformedTensors)
        if not data.startswith(self._head):
            raise MalformedTensors("it changed while it was read")
        for entry in self._entries:
            if len(self._head) + entry.stop > len(data):
                raise MalformedTensors(f"{entry.name:.100} ends beyond the end of the file")
        return _Tensors(data, len(self._head), self._entries), hashlib.sha256(data).hexdigest()


class _Tensors(Mapping[str, Tensor]):
    """Tensors by name, over the bytes of the file."""

    def __init__(self, data: bytes, begin: int, entries: list[_Entry]) -> None:
        self._data = data
        self._begin = begin
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        count, start = math.prod(entry.shape), self._begin + entry.start
        raw = np.frombuffer(self._data, _DTYPES[entry.dtype], count, start).reshape(entry.shape)
        if entry.dtype == "BF16":  # the upper half of a float32
            return (raw.astype("<u4") << 16).view("<f4")
        if entry.dtype == "F8_E5M2":  # the upper half of a float16
            return (raw.astype("<u2") << 8).view("<f2").astype(np.float32)
        return _e4m3()[raw] if entry.dtype == "F8_E4M3" else raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@cache
def _e4m3() -> NDArray[np.float32]:
    """The 256 numbers of FP8 E4M3 (arXiv:2209.05433): no infinities, one NaN of each sign."""
    byte = np.arange(256)
    exponent, fraction = byte >> 3 & 15, (byte & 7) / 8
    size = np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7.0))
    size[byte & 127 == 127] = np.nan
    return np.where(byte < 128, size, -size).astype(np.float32)


def _read_head(file: BinaryIO, size: int) -> bytes:
    length = file.read(8)
    if len(length) < 8:
        raise MalformedTensors(f"it has {size} bytes, too few for a header")
    count = int.from_bytes(length, "little")
    if count > size - 8:
        raise MalformedTensors("it has no safetensors header")
    if count > MAX_HEADER_BYTES:
        raise MalformedTensors(f"its header has {count} bytes, more than {MAX_HEADER_BYTES}")
    return length + file.read(count)


def _parse(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise MalformedTensors("it has no safetensors header")
    try:
        header = parse_json(text)
    except Malformed as error:
        raise MalformedTensors(f"it has no safetensors header: {error}") from error
    assert isinstance(header, dict)
    return header


def _entry(name: str, value: Any, size: int) -> _Entry:
    if len(name) > _LONGEST_NAME:
        raise MalformedTensors(f"it has a name of {len(name)} characters")
    kind = value.get("dtype") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in _NAMED:
        raise MalformedTensors(f"{name:.100} is of {_NAMED[kind]} ({kind}), which are not read")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise MalformedTensors(f"{name:.100} has the type {str(kind)[:40]!r}, which is none of {', '.join(_DTYPES)}")
    shape, offsets = _counts(name, value.get("shape")), _counts(name, value.get("data_offsets"))
    if len(shape) > MAX_DIMENSIONS:
        raise MalformedTensors(f"{name:.100} has {len(shape)} dimensions, more than {MAX_DIMENSIONS}")
    if len(offsets) != 2:
        raise MalformedTensors(f"{name:.100} has no place in the file")
    start, stop = offsets
    if not start <= stop <= size:
        raise MalformedTensors(f"{name:.100} stands at {start} to {stop} of {size} bytes of data: the file is cut off")
    if math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize != stop - start:
        raise MalformedTensors(f"{name:.100} is {kind} {list(shape)} in {stop - start} bytes")
    return _Entry(name, kind, shape, start, stop)


def _require_whole(entries: list[_Entry], size: int) -> None:
    """Raise MalformedTensors unless the tensors stand one behind the other and fill the data."""
    end = 0
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.start != end:
            kind = "overlaps another" if entry.start < end else "leaves a gap before it"
            raise MalformedTensors(f"{entry.name:.100} {kind}: it begins at {entry.start}, not at {end}")
        end = entry.stop
    if end != size:
        raise MalformedTensors(f"its tensors end at {end} of {size} bytes of data")


def _counts(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < _MOST_OFFSET for item in value):
        raise MalformedTensors(f"{name:.100} has no shape, or no place in the file")
    return tuple(value)
