"""Writing files so that a reader sees the old file, no file, or the whole new one: the rule of every writer.

A target is followed through links, so that a link stays a link; it is a regular file or does not exist yet; it keeps
its permissions; and where the caller says so, what exists is refused. What is being written stands beside it under
another name, locked by its writer, so that what killed writers left can be told from it. Must not import numpy or
Pillow.
"""

import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pixrt.errors import OutputError

if sys.platform != "win32":  # there a file that is open cannot be removed, which tells as much as a lock
    import fcntl

_PREFIX, _SUFFIX = ".pixrt-", ".tmp"
NO_REPLACE, EXCHANGE = 1, 2  # conditions of `rename_if`
_AT_FDCWD = -100
TRIES = 100  # to make something that nobody removes at once
_swept: set[Path] = set()  # folders in which this process has looked for what killed writers left


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file: its size in bytes and its SHA-256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> "Content":
        """Of a file with these bytes."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


def content_of(path: Path) -> Content | None:
    """What is in a regular file, links followed; None where there is none. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        digest = hashlib.file_digest(file, "sha256")
        return Content(file.tell(), digest.hexdigest())


@contextmanager
def atomic_write(path: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file; on success flush it to disk and give it the name `path`, else remove it.

    Folders above it are made. Raises OutputError if `path` is anything but a regular file, if there is one and not
    `overwrite`, or if the file system refuses (no permission, disk full).
    """
    try:
        target = target_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = require_free(path, overwrite=overwrite)
        temporary, fd = _temporary_file(target.parent)
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    try:
        with os.fdopen(fd, "wb") as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(fd, mode)
            yield file
            file.flush()
            os.fsync(fd)
            if sys.platform != "win32":  # while it is locked: nobody takes it for what a killed writer left
                _rename(temporary, target, overwrite)
        if sys.platform == "win32":
            _rename(temporary, target, overwrite)
        sync_folder(target.parent)
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        raise refused(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def target_of(path: Path) -> Path:
    """The file or folder that a writer to `path` makes or replaces: every link followed. Raises OSError, ValueError."""
    return Path(os.path.realpath(path))


def require_free(path: Path, *, overwrite: bool) -> int | None:
    """Say before any work what `atomic_write` would say; the permissions of the file that is there, None for none.

    What killed writers left in its folder is removed. Raises OutputError.
    """
    try:
        target = target_of(path)
        if target.parent not in _swept:
            _swept.add(target.parent)
            remove_leftovers(target.parent)
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    if stat.S_ISLNK(mode):
        raise OutputError(f"{path} is a link in a loop of links", remedy="Remove it, or choose another name")
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder", remedy="Give the name of a file")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path} is not a file but a pipe or a device", remedy="Give the name of a file")
    if not overwrite:
        raise exists_already(path)
    return mode & 0o777


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they do not exist. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(folder, error) from error


def remove_leftovers(folder: Path, *, deep: bool = False) -> None:
    """Remove what writers that were killed left in a folder, with `deep` also below it; not what is being written."""
    for here, folders, names in os.walk(folder):
        for name in (*names, *folders):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                with suppress(OSError):
                    _remove_leftover(Path(here, name))
        folders[:] = [name for name in folders if not name.endswith(_SUFFIX)] if deep else []


def close_to_others(path: Path | int) -> None:
    """Take the right to write from group and others: nothing that is code is loaded if others may have changed it.

    Takes an open file's descriptor too. Raises OSError.
    """
    if os.name == "posix":
        mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116  # a descriptor too
        if mode & 0o022:
            os.chmod(path, mode & ~0o022)  # noqa: PTH101


def _temporary_file(folder: Path) -> tuple[Path, int]:
    for _ in range(TRIES):
        temporary = temporary_name(folder)
        # Not by `tempfile`, which would make a file only for the owner.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if lock_made(fd, temporary):
            return temporary, fd
        os.close(fd)
    raise OSError(errno.EAGAIN, "a temporary file is removed again and again", str(folder))


def temporary_name(folder: Path) -> Path:
    """A name in a folder that `remove_leftovers` knows."""
    return folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


def lock_made(fd: int, path: Path) -> bool:
    """Lock what was just made, until it is closed; False if somebody took it for a leftover before that."""
    if sys.platform == "win32":
        return True
    with suppress(OSError):  # a file system without locks: nobody else gets one either, and so nobody removes it
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        return path.lstat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _remove_leftover(path: Path) -> None:
    """Raises OSError if it is locked by its writer, or no file or folder."""
    if sys.platform == "win32":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(fd)


def _rename(temporary: Path, target: Path, overwrite: bool) -> None:
    """Raises FileExistsError if there is a target and not `overwrite`, however late it came; OSError."""
    if overwrite:
        temporary.replace(target)
    elif not rename_if(temporary, target, NO_REPLACE):
        if target.exists():  # one that comes right now is replaced: there is no better call here
            raise FileExistsError
        temporary.replace(target)


def rename_if(source: Path, target: Path, flags: int) -> bool:
    """Rename if nothing is in the way, or exchange, at once; False where no call can do that. Raises OSError."""
    import ctypes

    call = None if sys.platform == "win32" else getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(target))


def sync_folder(folder: Path) -> None:
    """Have a new name survive a power cut. Some file systems cannot, and need not be told."""
    if sys.platform != "win32":
        with suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def exists_already(path: Path) -> OutputError:
    """What to raise if something is in the way."""
    return OutputError(f"{path} exists already", remedy="Choose another name, or pass --overwrite")


def refused(path: Path, error: Exception) -> OutputError:
    """What to raise if the file system refuses."""
    return OutputError(
        f"cannot write {path}: {getattr(error, 'strerror', None) or error}",
        remedy="Choose a folder that is writable and has free space",
    )
