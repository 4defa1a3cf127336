"""Writing folders so that a reader sees the old folder, none, or the whole new one. Must not import numpy or Pillow."""

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pixrt.files import (
    EXCHANGE,
    TRIES,
    exists_already,
    lock_made,
    make_folder,
    refused,
    remove_leftovers,
    rename_if,
    sync_folder,
    target_of,
    temporary_name,
)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Make a temporary folder; on success flush all of it to disk and put it at `path`, else remove it.

    At every moment the old folder or the new one is there, whole; the old one is removed afterwards. An empty folder
    is as good as none. What an earlier call that was killed left is removed first. Raises OutputError.
    """
    try:
        target = target_of(path)
        make_folder(target.parent)
        remove_leftovers(target.parent)
        restore(target)
        with temporary_folder(target.parent) as folder:
            yield folder
            if target.is_dir():
                folder.chmod(stat.S_IMODE(target.stat().st_mode))
            _sync(folder)
            _put(folder, target, overwrite)  # after an exchange the temporary folder is the old one
            sync_folder(target.parent)
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        raise refused(path, error) from error


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder that is removed in the end, by the next writer at the latest. Raises OSError."""
    folder, fd = _make(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if fd is not None:
            os.close(fd)


def restore(target: Path) -> None:
    """Undo what a kill between two renames of `atomic_folder` left, where there is no better call. Raises OSError."""
    aside = _aside(target)
    if aside.is_dir():
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)


def _make(parent: Path) -> tuple[Path, int | None]:
    """A new folder, and a descriptor that holds it locked."""
    for _ in range(TRIES):
        folder = temporary_name(parent)
        folder.mkdir()
        if sys.platform == "win32":
            return folder, None
        with suppress(FileNotFoundError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if lock_made(fd, folder):
                return folder, fd
            os.close(fd)
    raise OSError(errno.EAGAIN, "a temporary folder is removed again and again", str(parent))


def _put(folder: Path, target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        folder.rename(target)
    elif not overwrite:
        raise FileExistsError
    elif not rename_if(folder, target, EXCHANGE):
        aside = _aside(target)  # where the two cannot change places at once, the next call puts the old one back
        target.rename(aside)
        try:
            folder.rename(target)
        finally:
            restore(target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.pixrt-old")


def _sync(folder: Path) -> None:
    for here, _, names in os.walk(folder):
        for name in names:
            path = Path(here, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(Path(here))
