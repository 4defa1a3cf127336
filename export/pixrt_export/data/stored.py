"""A training set whose index is rows and whose pictures are files in one folder. Must not import PyTorch."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from pixrt.pictures.images import PictureSource
from pixrt_export.data.fitting import load_pair
from pixrt_export.data.pairs import Pair
from pixrt_export.data.rows import BadRow, Captions, Row


class FolderPairs:
    """The rows of an index file in `folder`, called `unit` in it; of each the texts and paths are kept in memory."""

    def __init__(
        self, folder: Path, index: str, unit: str, found: Iterable[Row | BadRow], *, skip_missing: bool = False
    ) -> None:
        self._folder = folder
        self._index, self._unit = index, unit
        self._rows: list[Row] = []
        bad = []
        self.skipped = 0
        for row in found:
            if not isinstance(row, Row):
                bad.append(row)
            elif skip_missing and not self._is_there(row):
                self.skipped += 1
            else:
                self._rows.append(row)
        self.bad_rows = tuple(bad)

    def __len__(self) -> int:
        return len(self._rows)

    def _is_there(self, row: Row) -> bool:
        return all((self._folder / name).is_file() for name in (row.source, row.target) if name is not None)

    def fingerprint(self) -> str:
        """SHA-256 over the rows and every picture's size and modification time.

        Not over the pictures themselves: that would read hundreds of gigabytes at every start. A file that was written
        again has another time, so no change is missed; a copy of the folder that does not keep the times counts as
        another set, which is the safe side.
        """
        digest = hashlib.sha256()
        for row in self._rows:
            captions = row.captions and [row.captions.source, row.captions.target]
            files = [(name, _stamp(self._folder / name)) for name in (row.source, row.target) if name is not None]
            digest.update(json.dumps([row.instruction, captions, files]).encode())
        return digest.hexdigest()

    def place(self, number: int) -> str:
        """Such as `metadata.jsonl line 3`."""
        return f"{self._index} {self._unit} {number}"

    def where(self, index: int) -> str:
        """Name the row of sample `index`."""
        return self.place(self._rows[index].number)

    def instruction(self, index: int) -> str:
        """The text of sample `index`."""
        return self._rows[index].instruction

    def captions(self, index: int) -> Captions | None:
        """What the pictures of sample `index` show, if the index says so."""
        return self._rows[index].captions

    def pictures(self, index: int) -> tuple[PictureSource | None, PictureSource]:
        """The paths of source and target."""
        row = self._rows[index]
        return None if row.source is None else self._folder / row.source, self._folder / row.target

    def load(self, index: int, size: int) -> Pair:
        """Read sample `index`, its pictures fitted to [size, size, 3]. Raises PictureError."""
        return load_pair(self.where(index), self._rows[index].instruction, *self.pictures(index), size)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and modification time; None for a file that is missing, which `load` tells of when its turn comes."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
