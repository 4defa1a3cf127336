"""A data set of Hugging Face's library `datasets`: what `save_to_disk` wrote, or parquet files as the hub has them.

The library is imported when one is opened. Must not import PyTorch.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.errors import DataError, PictureError
from pixrt.pictures.images import PictureSource
from pixrt_export.data.fitting import load_pair
from pixrt_export.data.options import SetOptions
from pixrt_export.data.pairs import Pair
from pixrt_export.data.rows import BadRow, Captions, captions_of, text_fault

if TYPE_CHECKING:
    import datasets

INDEX = "state.json"
SPLITS_INDEX = "dataset_dict.json"
# Names of one thing, the first that the set has is taken; the second ones are of instructpix2pix-clip-filtered.
SOURCE = ("input_image", "original_image")
TARGET = "edited_image"
TEXT = "edit_prompt"
CAPTIONS = ("original_prompt", "edited_prompt")
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files in a folder, or in its `data`, where the hub's data sets have them; by name."""
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))


class HuggingFacePairs:
    """The rows of a saved data set. It stays on disk, mapped into memory; pictures are decoded by pixrt."""

    bad_rows: tuple[BadRow, ...] = ()
    skipped = 0

    def __init__(self, folder: Path, options: SetOptions) -> None:
        """Open it. Raises DataError if the library, the columns or rows are missing."""
        if options.skip_missing:
            problem = f"skip_missing is given, and {folder} holds its pictures itself"
            raise DataError(problem, remedy="Leave it out: no file can be missing")
        parquet = parquet_files(folder)
        table = _open(folder, parquet)
        self._files = parquet or [Path(file["filename"]) for file in table.cache_files]
        columns = set(table.column_names)
        source = options.source_column or next((name for name in SOURCE if name in columns), None)
        self._target, self._text = options.target_column or TARGET, options.text_column or TEXT
        if not {self._target, self._text, *([source] if source else [])} <= columns:
            raise DataError(
                f"{folder} has the columns {', '.join(sorted(columns)) or '(none)'}",
                remedy=f"It needs {source or ' or '.join(SOURCE)}, {self._text} and {self._target}, or say which they"
                " are: --source-column, --text-column, --target-column",
            )
        if getattr(table.features[self._text], "dtype", None) not in ("string", "large_string"):
            raise DataError(
                f"the column {self._text} of {folder} holds no texts", remedy="Cast it to datasets.Value('string')"
            )
        self._source = source
        self._captions = CAPTIONS if set(CAPTIONS) <= columns else ()
        self._texts = table.select_columns([self._text, *self._captions])
        self._pictures = _undecoded(table, folder, [name for name in (source, self._target) if name])

    def __len__(self) -> int:
        return len(self._texts)

    def fingerprint(self) -> str:
        """SHA-256 over the texts, and the set's files by name, size and modification time.

        Not over the pictures, which are in those files: see FolderPairs.fingerprint.
        """
        digest = hashlib.sha256()
        for batch in self._texts.iter(batch_size=1000):
            digest.update(json.dumps(batch).encode())
        for path in self._files:
            status = path.stat()
            digest.update(json.dumps([path.name, status.st_size, status.st_mtime_ns]).encode())
        return digest.hexdigest()

    def place(self, number: int) -> str:
        """Such as `row 3`, counted from 1."""
        return f"row {number}"

    def where(self, index: int) -> str:
        """Name the row of sample `index`."""
        return self.place(index + 1)

    def instruction(self, index: int) -> str:
        """The text of sample `index`. Raises DataError for one that no request could have."""
        text: str = self._texts[index][self._text] or ""
        if fault := text_fault(text):
            raise DataError(f"{self.where(index)}: {self._text} {fault}", remedy="Shorten it, or leave the row out")
        return text

    def captions(self, index: int) -> Captions | None:
        """What the pictures of sample `index` show, if the set has columns for it."""
        if not self._captions:
            return None
        row = self._texts[index]
        return captions_of(*(row[name] for name in self._captions))

    def pictures(self, index: int) -> tuple[PictureSource | None, PictureSource]:
        """The encoded bytes of source and target. Raises PictureError if there is no target, or only a path."""
        row = self._pictures[index]
        source = None if self._source is None else row[self._source]
        target = row[self._target]
        if target is None:
            raise PictureError(f"{self._target} is empty", remedy="Leave the row out")
        return None if source is None else _encoded(source, str(self._source)), _encoded(target, self._target)

    def load(self, index: int, size: int) -> Pair:
        """Read sample `index`, its pictures fitted to [size, size, 3]. Raises PictureError."""
        where = self.where(index)
        try:
            pictures = self.pictures(index)
        except PictureError as error:
            raise PictureError(f"{where}: {error.problem}", remedy=error.remedy) from error
        return load_pair(where, self.instruction(index), *pictures, size)


def _encoded(cell: dict[str, Any], column: str) -> bytes:
    """A picture's file. One that is only named is refused: the path was somebody's, and may point anywhere."""
    if cell["bytes"] is None:
        raise PictureError(
            f"{column} is not in the set but named, as {cell['path']!r}",
            remedy="Save the set again with save_to_disk where its pictures are",
        )
    return bytes(cell["bytes"])


def _undecoded(table: "datasets.Dataset", folder: Path, columns: list[str]) -> "datasets.Dataset":
    from datasets import Image

    for name in columns:
        if not isinstance(table.features[name], Image):
            raise DataError(f"the column {name} of {folder} holds no pictures", remedy="Cast it to datasets.Image()")
        table = table.cast_column(name, Image(decode=False))
    return table.select_columns(columns)


def _open(folder: Path, parquet: Sequence[Path]) -> "datasets.Dataset":
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{folder} needs Hugging Face's library datasets, which cannot be imported here: {error}",
            remedy="Install it: pip install 'pixrt[hf-datasets]'",
        ) from error
    splits = sorted({shard[1] for path in parquet if (shard := _SHARD.fullmatch(path.stem))})
    if len(splits) > 1:
        raise DataError(
            f"{folder} holds the splits {', '.join(splits)}", remedy="Give a folder that has the files of one of them"
        )
    try:
        if parquet:
            return datasets.Dataset.from_parquet([str(path) for path in parquet])
        opened = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises many unrelated types on broken files
        raise DataError(f"{folder} cannot be opened: {str(error)[:200]}", remedy="Save it again") from error
    if isinstance(opened, datasets.DatasetDict):
        if len(opened) != 1:
            raise DataError(
                f"{folder} holds the splits {', '.join(map(str, opened)) or '(none)'}",
                remedy="Give the folder of one of them",
            )
        return next(iter(opened.values()))
    return opened
