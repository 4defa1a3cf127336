"""One row of an index on disk, and what a row may say: texts that are Unicode, paths that stay in the folder.

Must not import PyTorch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pixrt.pictures.images import PictureSource
from pixrt.reading import Malformed
from pixrt.tasks.requests import MAX_TEXT_BYTES
from pixrt_export.data.pairs import PairSet


@dataclass(frozen=True, slots=True)
class Captions:
    """What the source and the target show, in words. Evaluation compares pictures with them."""

    source: str
    target: str


def captions_of(before: object, after: object) -> Captions | None:
    """Both captions, if both are texts."""
    if isinstance(before, str) and isinstance(after, str) and not text_fault(before) and not text_fault(after):
        return Captions(before, after)
    return None


@dataclass(frozen=True, slots=True)
class Row:
    """One sample: its place in the index, counted from 1, its texts, its pictures as paths relative to the folder."""

    number: int
    instruction: str
    source: str | None
    target: str
    captions: Captions | None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be a sample, and why."""

    number: int
    reason: str


class StoredPairs(PairSet, Protocol):
    """A training set on disk."""

    @property
    def bad_rows(self) -> tuple[BadRow, ...]:
        """The rows that are left out of the set. What `open_pairs` gives has none."""
        ...

    @property
    def skipped(self) -> int:
        """How many samples are left out because their pictures are missing."""
        ...

    def place(self, number: int) -> str:
        """Name a row by its number, such as `metadata.jsonl line 3`."""
        ...

    def where(self, index: int) -> str:
        """Name the row of sample `index`."""
        ...

    def captions(self, index: int) -> Captions | None:
        """What the pictures of sample `index` show, if the set says so."""
        ...

    def pictures(self, index: int) -> tuple[PictureSource | None, PictureSource]:
        """Source and target of sample `index`, not decoded. Raises PictureError if there is none."""
        ...


def malformed(error: Malformed) -> str:
    """What is wrong with a text that could not be read, in the words of a row."""
    said = str(error).removeprefix("it ")
    return "is not JSON" if said.startswith("is ") else said


def text_fault(text: object) -> str | None:
    """Say why this is not a text that can be tokenized; None if it is."""
    if not isinstance(text, str):
        return f"is {type(text).__name__}, not a text"
    try:
        # As a request counts it, whose negative prompt is empty.
        length = sum(len(json.dumps(part, ensure_ascii=False).encode()) for part in (text, ""))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if length > MAX_TEXT_BYTES:
        return f"has {length} bytes, more than {MAX_TEXT_BYTES}"
    return None


def path_fault(name: object) -> str | None:
    """Say why this is not the path of a file in the folder; None if it is. A link may point anywhere."""
    fault = text_fault(name)
    if fault is not None or not isinstance(name, str):
        return fault
    if not name or "\0" in name:
        return f"is {name!r}, which is no path"
    path = Path(name)
    if path.anchor:
        return f"is {name!r}, and a path must be relative to the folder"
    if ".." in path.parts:
        return f"is {name!r}, which leaves the folder"
    return None
