"""Networks as OpenVINO compiled them, kept in the user's cache folder for the next process.

OpenVINO's own cache finds a network by its path and times, and believes what it finds. Here one is found by what it was
made of (see `OpenVinoBackend`), and believed by its SHA-256: OpenVINO runs altered weights without a word. An entry is
a folder: the file that OpenVINO wrote, and what is known of it. It is put in its place whole, so that processes do not
disturb each other; one that another removes stays readable as long as it is open. Must not import openvino.
"""

import hashlib
import json
import mmap
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from pixrt.backends.protocol import Array
from pixrt.bundles.hashes import FileIdentity, remember, remembered
from pixrt.errors import OutputError, PixrtError
from pixrt.files import close_to_others, make_folder
from pixrt.folders import atomic_folder
from pixrt.places import cache_folder
from pixrt.reading import Malformed, open_regular, read_json

LIMIT_BYTES = 12 << 30
_NETWORK, _FACTS = "network.blob", "network.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(rb"<\?xml[^\n]{0,4000}/>\n")  # OpenVINO's, in front of what its CPU plugin reads


class CompiledNetworks:
    """The kept networks, at most `limit_bytes` of them: those that were used least recently go first.

    `folder` None is the user's.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or cache_folder() / "openvino"
        self._limit_bytes = limit_bytes

    def find(self, key: str) -> Array | None:
        """What is kept under a key (64 hexadecimal digits), mapped into memory; None where nothing is that is whole.

        Where nobody but this user can have written it. Its SHA-256 is computed once, as of a bundle's files.
        """
        place = self.folder / key
        with suppress(PixrtError, Malformed, OSError, ValueError, KeyError, TypeError):
            facts = read_json(place / _FACTS, 4096)
            with open_regular(place / _NETWORK, links=False) as file:
                status = os.fstat(file.fileno())
                if status.st_size != facts["bytes"] or not _is_own(status) or _sha256(file) != facts["sha256"]:
                    return None
                # Written to by nobody; OpenVINO's tensors are of arrays that could be.
                mapped: Array = np.memmap(file, np.uint8, "c", offset=int(facts["header_bytes"]))
                os.utime(place)  # used just now
                return mapped
        return None

    @contextmanager
    def keeping(self, key: str) -> Iterator[Path]:
        """A folder for OpenVINO's cache to write one network to, which is kept under a key then. Raises OutputError."""
        make_folder(self.folder)
        with suppress(OSError):
            close_to_others(self.folder)
        with atomic_folder(self.folder / key) as folder:
            yield folder
            _seal(folder)
        self._prune(key)

    def drop(self, key: str) -> None:
        """Forget what is kept under a key."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def sizes(self) -> dict[Path, int]:
        """The kept networks, and the bytes of each; the one used least recently is first."""
        found: dict[Path, tuple[int, int]] = {}
        with suppress(OSError):
            for place in self.folder.iterdir():
                with suppress(OSError):  # another process removes it
                    if _KEY.fullmatch(place.name):
                        found[place] = (place.stat().st_mtime_ns, sum(file.stat().st_size for file in place.iterdir()))
        return {place: found[place][1] for place in sorted(found, key=lambda place: found[place][0])}

    def _prune(self, key: str) -> None:
        sizes = self.sizes()
        total = sum(sizes.values())
        latest = self.folder / key
        for place in (*(place for place in sizes if place != latest), latest):  # which could be too large by itself
            if total <= self._limit_bytes:
                return
            shutil.rmtree(place, ignore_errors=True)
            total -= sizes.get(place, 0)


def release(kept: Array) -> None:
    """Let a mapped network's pages go from this process; what is read of them again comes from the system's cache.

    OpenVINO lays the weights out anew at a first run, in memory of its own, and hardly reads the file's any more.
    """
    if isinstance(kept.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        with suppress(OSError):
            kept.base.madvise(mmap.MADV_DONTNEED)


def _seal(folder: Path) -> None:
    """Note what OpenVINO wrote. Raises OutputError if that is not what this knows how to read."""
    written = list(folder.iterdir())
    network = folder / _NETWORK
    try:
        (file,) = written
        file.rename(network)
        network.chmod(0o600)
        with network.open("rb") as opened:
            header = _HEADER.match(opened.read(4096))
            if header is None:
                raise ValueError("it begins in another way")
            facts = {"bytes": os.fstat(opened.fileno()).st_size, "header_bytes": header.end()}
            (folder / _FACTS).write_text(json.dumps({**facts, "sha256": _sha256(opened)}))
    except ValueError as error:
        raise OutputError(
            f"OpenVINO wrote {len(written)} files to its cache, or one that pixrt does not know: {error}",
            remedy="Nothing is lost but time",
        ) from error


def _sha256(file: Any) -> str:
    """Of an open file, remembered for as long as it is the same."""
    identity = FileIdentity.of(os.fstat(file.fileno()))
    known = remembered().get(str(identity))
    if known is None:
        file.seek(0)
        known = hashlib.file_digest(file, "sha256").hexdigest()
        if FileIdentity.of(os.fstat(file.fileno())) == identity:
            remember({identity: known})
    return known


def _is_own(status: os.stat_result) -> bool:
    others = stat.S_IWGRP | stat.S_IWOTH
    return os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & others)
