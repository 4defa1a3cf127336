"""API keys: a file with a line NAME:SHA256 each, and whose key a request carries. Must not import numpy or Pillow.

A key is 256 random bits, so one round of SHA-256 is right for it: there is no dictionary that a slow hash would have to
hold up, and a slow one at every request would be a way to keep the server busy. The file holds no key, so reading it
gives nobody access; writing to it does.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from pixrt.errors import OptionError
from pixrt.reading import Malformed, decoded, read_regular

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY_BYTES = 32
_MOST_BYTES = 1 << 20


class Keys:
    """The keys of a file, or of lines such as it has. `read` again takes what the file says then."""

    def __init__(self, file: Path | None, lines: Sequence[str] = ()) -> None:
        """Raises OptionError, as `read`. `lines` hold if there is no file."""
        self._file = file
        self._digests = tuple(self._line(number, line) for number, line in enumerate(lines, 1))
        self.notes: tuple[str, ...] = ()
        self.read()

    def read(self) -> None:
        """Read the file, if there is one. Raises OptionError if it cannot be used; then what was read before holds."""
        if self._file is None:
            return
        try:
            mode = self._file.stat().st_mode if os.name == "posix" else 0  # elsewhere it says nothing of others
            lines = decoded(read_regular(self._file, _MOST_BYTES, OSError)).splitlines()
        except (OSError, Malformed) as error:
            reason = (error.strerror or error) if isinstance(error, OSError) else "it is no text"
            remedy = "Make a line for it with `pixrt serve --new-key NAME`"
            raise OptionError(
                f"the keys file {self._file} cannot be read: {reason}", remedy=remedy, option="keys_file"
            ) from None
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OptionError(
                f"the keys file {self._file} may be written by others, who could let themselves in",
                remedy=f"chmod 600 {self._file}",
                option="keys_file",
            )
        self._digests = tuple(self._line(number, line) for number, line in enumerate(lines, 1) if _says(line))
        if not self._digests:
            remedy = "Make one with `pixrt serve --new-key NAME`"
            raise OptionError(f"the keys file {self._file} has no key", remedy=remedy, option="keys_file")
        self.notes = (f"the keys file {self._file} may be read by everybody",) if mode & stat.S_IROTH else ()

    def _line(self, number: int, line: str) -> tuple[str, bytes]:
        name, _, digest = (part.strip() for part in line.partition(":"))
        if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):  # the line itself is not told: it may be a key
            raise OptionError(
                f"line {number} of the keys file {self._file} is not NAME:SHA256",
                remedy="Make one with `pixrt serve --new-key NAME`",
                option="keys_file",
            )
        return name, bytes.fromhex(digest)

    @property
    def has_file(self) -> bool:
        """Whether there is something to be read again."""
        return self._file is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Whose keys there are; a name with two keys is told once."""
        return tuple(dict.fromkeys(name for name, _ in self._digests))

    def owner(self, key: bytes) -> str | None:
        """Whose key it is. Takes as long for a wrong key as for a right one, wherever it stands in the file."""
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def new_key(name: str) -> tuple[str, str]:
    """A new key, and its line for the keys file. Raises OptionError."""
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"the name {name!r:.60} does not fit a line of the keys file",
            remedy="Use 1 to 64 letters, digits, dots, dashes and underscores",
        )
    key = f"pixrt-{secrets.token_urlsafe(_KEY_BYTES)}"
    return key, f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


def carried_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key in a request's headers: `Authorization: Bearer`, `x-api-key`, or Basic's password; None if none."""
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                return rest.strip()
            if scheme.lower() == b"basic":
                return _password(rest.strip())
    return None


def _password(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True).partition(b":")[2]
    except binascii.Error:
        return None


def _says(line: str) -> bool:
    """Whether a line is neither empty nor a comment."""
    return bool(line.strip()) and not line.lstrip().startswith("#")
