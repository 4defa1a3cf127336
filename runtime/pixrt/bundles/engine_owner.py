"""Which TensorRT plans this user has built: a plan is code, and one that came with a bundle is a stranger's code.

A note is an empty file in the user's own data folder, named by the SHA-256 of the plan, so a plan that was changed, or
built by somebody else, has none, whatever a bundle says of it. Must not import TensorRT.
"""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from pixrt.errors import OutputError
from pixrt.files import make_folder
from pixrt.places import data_folder

_SHA256 = re.compile(r"[0-9a-f]{64}")


def note_own(sha256: str) -> None:
    """Note that this user has built the plan with this SHA-256 (hexadecimal). Raises OutputError."""
    folder = _folder()
    make_folder(folder)
    try:
        if os.name == "posix":
            folder.chmod(0o700)
        with suppress(FileExistsError):
            os.close(os.open(folder / sha256, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror}", remedy="It is where built engines are noted: free it"
        ) from error


def is_own(sha256: str) -> bool:
    """Whether this user has built the plan with this SHA-256; notes that others may have made do not count."""
    if not _SHA256.fullmatch(sha256):
        return False
    folder = _folder()
    try:
        guards = folder.lstat(), (folder / sha256).lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(guards[0].st_mode) or not stat.S_ISREG(guards[1].st_mode):
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return os.name != "posix" or all(s.st_uid == os.geteuid() and not s.st_mode & others for s in guards)


def _folder() -> Path:
    return data_folder() / "built-engines"
