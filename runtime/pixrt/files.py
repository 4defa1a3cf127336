"""Writing files so that a reader sees the old file, no file, or the whole new one. Must not import numpy or Pillow."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pixrt.errors import OutputError

_PREFIX, _SUFFIX = ".pixrt-", ".tmp"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success flush it to disk and rename it to `path`, else remove it.

    Raises OutputError if the file system refuses (no folder, no permission, disk full).
    """
    temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
    try:
        # Not by `tempfile`, which would make a file only for the owner.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they do not exist. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left in a folder and those below it; nobody else may write there now."""
    for path in folder.rglob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            path.unlink()


def close_to_others(path: Path | int) -> None:
    """Take the right to write from group and others: nothing that is code is loaded if others may have changed it.

    Takes an open file's descriptor too. Raises OSError.
    """
    if os.name == "posix":
        mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116  # a descriptor too
        if mode & 0o022:
            os.chmod(path, mode & ~0o022)  # noqa: PTH101


def _refused(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"cannot write {path}: {getattr(error, 'strerror', None) or error}",
        remedy="Choose a folder that exists, is writable and has free space",
    )
