"""Folders that tests make once and keep on disk from one run to the next, shared by all processes.

A folder is kept under a key: a hash of the sources that make it and of the versions of the libraries that they use. It
is made aside, under a lock, and takes its name when it is whole. Nothing may change it afterwards: its files are
read-only, and `Kept.changed` names those that changed all the same (root may write anything). It must not import pixrt.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import platformdirs
from filelock import FileLock

UNUSED_DAYS = 3
State = dict[str, tuple[int, int]]


def cache_folder() -> Path:
    """PIXRT_TEST_CACHE, or a folder in the user's cache."""
    given = os.environ.get("PIXRT_TEST_CACHE")
    return (Path(given) if given else platformdirs.user_cache_path("pixrt-tests")) / "kept"


def hash_of(paths: Iterable[Path], words: Iterable[str] = ()) -> str:
    """A key out of the content of files, whatever folder they are in, and of further words."""
    digest = hashlib.sha256("\n".join(words).encode())
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:20]


class Kept:
    """The folders of one key. Those of keys that nobody used for some days are removed."""

    def __init__(self, key: str) -> None:
        self._folder = cache_folder() / key
        self._folder.mkdir(parents=True, exist_ok=True)
        os.utime(self._folder)
        self._given: dict[Path, State] = {}
        _remove_unused(self._folder.parent)

    def get(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder `name`; `make` writes it where there is none yet."""
        folder = self._folder / name
        if not folder.exists():
            with FileLock(self._folder / f".{name}.lock"):
                if not folder.exists():
                    self._make(folder, make)
        self._given.setdefault(folder, _state(folder))
        return folder

    def changed(self) -> list[str]:
        """Files of folders that were given out and are no longer what they were then."""
        return [
            str(folder / name)
            for folder, before in self._given.items()
            for name in sorted({name for name, _ in before.items() ^ _state(folder).items()})
        ]

    def _make(self, folder: Path, make: Callable[[Path], object]) -> None:
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=self._folder))
        try:
            make(aside / folder.name)
            for path in (aside / folder.name).rglob("*"):
                path.chmod(0o555 if path.is_dir() else 0o444)
            made = (aside / folder.name).rename(folder)
            made.chmod(0o555)
        finally:
            shutil.rmtree(aside)


def writable_copy(folder: Path, target: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(folder, target, copy_function=shutil.copyfile)
    for path in (target, *target.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    return target


def _state(folder: Path) -> State:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def _remove_unused(folder: Path) -> None:
    for key in folder.iterdir():
        with suppress(FileNotFoundError):  # another process may remove it, too
            if key.stat().st_mtime < time.time() - UNUSED_DAYS * 86400:
                for path in (key, *key.rglob("*")):
                    if path.is_dir():
                        path.chmod(0o755)
                shutil.rmtree(key)
