"""What files were hashed to, remembered in the user's cache folder, so that nobody waits for gigabytes twice.

A hash is believed for a file of the same size, times, inode and device, of which the time of change cannot be set by
programs. A file that was changed a moment before it was hashed is not remembered: its times could stay the same in a
next change. What cannot be read or written costs time and nothing else. Must not import numpy.
"""

import json
import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from pixrt.errors import PixrtError
from pixrt.files import atomic_write, close_to_others, make_folder
from pixrt.places import cache_folder
from pixrt.reading import Malformed, open_regular, parse_json

_VERSION = 1
_MOST_BYTES, _MOST_FILES = 4 << 20, 10_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SECOND_NS = 1_000_000_000
_TICK_NS = 50_000_000  # of clocks of file systems that count in nanoseconds


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What a file is told from another one by, and from itself before a change. Times are nanoseconds."""

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileIdentity":
        """Out of what the system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def is_settled(self) -> bool:
        """Whether a next change would be told by other times."""
        tick = 2 * _SECOND_NS if self.modified_ns % _SECOND_NS == 0 == self.changed_ns % _SECOND_NS else _TICK_NS
        return time.time_ns() - max(self.modified_ns, self.changed_ns) > tick

    def __str__(self) -> str:
        return ":".join(map(str, astuple(self)))


def remembered() -> dict[str, str]:
    """SHA-256s (hexadecimal) by `str` of an identity; empty where nothing is remembered that can be believed."""
    with suppress(PixrtError, Malformed, OSError), open_regular(_place(), links=False) as file:
        status = os.fstat(file.fileno())
        others = stat.S_IWGRP | stat.S_IWOTH
        if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & others):
            return {}
        data = file.read(_MOST_BYTES + 1)
        told = parse_json(data) if len(data) <= _MOST_BYTES else None
        known = told.get("sha256") if isinstance(told, dict) and told.get("version") == _VERSION else None
        if isinstance(known, dict) and all(isinstance(h, str) and _SHA256.fullmatch(h) for h in known.values()):
            return known
    return {}


def remember(hashed: Mapping[FileIdentity, str]) -> None:
    """Keep the SHA-256s of files that were hashed just now, whole or not at all."""
    new = {str(identity): sha256 for identity, sha256 in hashed.items() if identity.is_settled}
    if not new:
        return
    known = {name: sha256 for name, sha256 in remembered().items() if name not in new} | new
    kept = dict(list(known.items())[-_MOST_FILES:])
    with suppress(OSError, PixrtError):
        path = _place()
        make_folder(path.parent)
        with atomic_write(path) as file:
            file.write(json.dumps({"version": _VERSION, "sha256": kept}).encode())
            close_to_others(file.fileno())


def _place() -> Path:
    return cache_folder() / "hashes.json"
