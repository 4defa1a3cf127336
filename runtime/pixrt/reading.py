"""Reading files and texts that strangers may have written: regular files only, bounded, and refused in one line.

A file is opened without waiting for it, and judged by its open descriptor, so neither a pipe nor a file that is put in
its place a moment later is read for it. JSON and TOML become plain values of bounded depth and number, whose texts are
Unicode and whose names stand once. Must not import numpy or Pillow, or anything of pixrt but errors.
"""

import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from pixrt.errors import PixrtError

Refuse = Callable[[str], Exception]
"""Makes the error out of what is wrong with a file: a PixrtError, or what the caller turns into one."""

MOST_BYTES = 16 << 20  # of JSON, unless a caller says otherwise
MOST_TOML_BYTES = 256 << 10
DEEPEST = 64
MOST_VALUES = 1_000_000
LONGEST_NUMBER = 40  # characters; tokenizers say 1e30 as a whole number of 31 digits
_MOST_DOTS = 200  # of a line of TOML: its reader takes time by the square of a name's parts
_PIECE = 1 << 20
_STRING = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL
)  # the last quote may be missing, else it would be sought often
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
}


class Malformed(ValueError):
    """A text is not what it should be. The message is a reason, such as "it is not JSON (...)"."""


def unreadable(problem: str) -> PixrtError:
    """The error of a file that nobody else has a name for."""
    return PixrtError(problem, remedy="Check the path, or get the file again")


def kind_of(mode: int) -> str:
    """What a file that is not regular is, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")


def open_regular(path: str | os.PathLike[str], refuse: Refuse = unreadable, *, links: bool = True) -> BinaryIO:
    """A regular file, open for reading; without `links`, one that is a symbolic link is refused.

    Raises what `refuse` makes for a file that is missing, of another kind, or cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", *(() if links else ("O_NOFOLLOW",))):
        flags |= getattr(os, name, 0)
    try:
        # Looked at first too: opening a device may do something.
        mode = Path(path).stat(follow_symlinks=links).st_mode
        if stat.S_ISREG(mode):
            file = os.fdopen(os.open(path, flags), "rb")
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode):
                return file
            file.close()
    except (OSError, ValueError) as error:
        raise refuse(f"{shown(path)} cannot be read: {_reason(error)}") from error
    raise refuse(f"{shown(path)} is {kind_of(mode)}, not a regular file")


def read_regular(path: str | os.PathLike[str], limit: int, refuse: Refuse = unreadable, *, links: bool = True) -> bytes:
    """A regular file's bytes, `limit` at most. Raises what `refuse` makes."""
    with open_regular(path, refuse, links=links) as file:
        try:
            size = os.fstat(file.fileno()).st_size  # asked for more, Python takes memory for all of it
            data = file.read(min(size, limit) + 1)
            while size < len(data) <= limit and (more := file.read(min(_PIECE, limit + 1 - len(data)))):
                data += more
        except OSError as error:
            raise refuse(f"{shown(path)} cannot be read: {_reason(error)}") from error
    if len(data) > limit:
        raise refuse(f"{shown(path)} has more than {limit} bytes")
    return data


def read_lines(path: str | os.PathLike[str], longest: int, refuse: Refuse = unreadable) -> Iterator[bytes]:
    """A regular file's lines, with their ends, each of `longest` bytes at most. Raises what `refuse` makes."""
    with open_regular(path, refuse) as file:
        for number in count(1):
            try:
                line = file.readline(longest + 1)
            except OSError as error:
                raise refuse(f"{shown(path)} cannot be read: {_reason(error)}") from error
            if len(line) > longest:
                raise refuse(f"line {number} of {shown(path)} has more than {longest} bytes")
            if not line:
                return
            yield line


def read_text(path: str | os.PathLike[str], limit: int, refuse: Refuse = unreadable) -> str:
    """A regular file of UTF-8, `limit` bytes at most, with or without a mark at its begin. Raises by `refuse`."""
    try:
        return decoded(read_regular(path, limit, refuse))
    except Malformed as error:
        raise refuse(f"{shown(path)} cannot be read: {error}") from error


def read_json(path: str | os.PathLike[str], limit: int = MOST_BYTES, refuse: Refuse = unreadable) -> Any:
    """The value in a file of JSON, see `parse_json`. Raises what `refuse` makes."""
    try:
        return parse_json(read_regular(path, limit, refuse))
    except Malformed as error:
        raise refuse(f"{shown(path)} cannot be read: {error}") from error


def read_toml(path: str | os.PathLike[str], refuse: Refuse = unreadable) -> dict[str, Any]:
    """The tables in a file of TOML, see `parse_toml`. Raises what `refuse` makes."""
    try:
        return parse_toml(read_regular(path, MOST_TOML_BYTES, refuse))
    except Malformed as error:
        raise refuse(f"{shown(path)} cannot be read: {error}") from error


def shown(path: str | os.PathLike[str]) -> str:
    """A path for people: it may come out of a stranger's file."""
    text = str(Path(path))
    return text if len(text) <= 300 else f"{text[:200]}...{text[-60:]}"


def decoded(data: bytes) -> str:
    """UTF-8 as text, without a mark at its begin. Raises Malformed."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Malformed(f"it is not in UTF-8 (at byte {error.start})") from error


def parse_json(text: str | bytes, *, finite: bool = True, most_values: int = MOST_VALUES) -> Any:
    """The value that a text of JSON is. Raises Malformed.

    Refused are text that is not JSON in UTF-8, a nesting of more than DEEPEST, more than `most_values` values, a name
    that stands twice in an object, a number of more than LONGEST_NUMBER characters, lone surrogates, and unless
    `finite` is False (a caller that names the place) NaN and infinities.
    """
    if isinstance(text, bytes):
        text = decoded(text)
    _check_shape(text, most_values)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_int=_whole,
            parse_float=_finite if finite else _number,
            parse_constant=_no_constant if finite else float,
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except Malformed:
        raise
    except UnicodeEncodeError as error:
        raise Malformed("it holds half of a surrogate pair, which is not valid Unicode") from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is not JSON ({str(error)[:100]})") from error
    return value


def parse_toml(text: str | bytes) -> dict[str, Any]:
    """The tables that a text of TOML is. Raises Malformed, for what `parse_json` does, as far as TOML can have it."""
    if isinstance(text, bytes):
        text = decoded(text)
    if len(text) > MOST_TOML_BYTES:
        raise Malformed(f"it has more than {MOST_TOML_BYTES} characters")
    if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise Malformed(f"a line of it has more than {_MOST_DOTS} dots")
    _check_depth(text)
    try:
        value = tomllib.loads(text, parse_float=_finite)
        _check_toml(value)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is not TOML ({str(error)[:100]})") from error
    return value


def _check_shape(text: str, most_values: int) -> None:
    """How deep and how much, by the brackets and commas outside of strings."""
    bare = _STRING.sub("", text)
    count = bare.count(",") + bare.count("[") + bare.count("{")
    if count > most_values:
        raise Malformed(f"it holds {count} values, more than {most_values}")
    _check_depth(bare)


def _check_depth(text: str) -> None:
    brackets = _NO_BRACKET.sub("", text)
    if len(brackets) <= DEEPEST:
        return
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise Malformed(f"it is nested more than {DEEPEST} deep")


def _check_toml(value: Any) -> None:
    if isinstance(value, dict):
        for part in value.values():
            _check_toml(part)
    elif isinstance(value, list):
        for part in value:
            _check_toml(part)
    elif isinstance(value, int) and value.bit_length() > 64:
        raise Malformed(f"it holds a number of {value.bit_length()} bits")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Malformed(f"it has the name {name!r:.60} twice in one object")
            seen.add(name)
    return found


def _whole(text: str) -> int:
    _check_length(text)
    return int(text)


def _number(text: str) -> float:
    _check_length(text)
    return float(text)


def _finite(text: str) -> float:
    value = _number(text)
    if not math.isfinite(value):
        raise Malformed(f"it holds {text:.40}, which is no finite number")
    return value


def _check_length(text: str) -> None:
    if len(text) > LONGEST_NUMBER:
        raise Malformed(f"it holds a number of {len(text)} characters")


def _no_constant(text: str) -> Any:
    raise Malformed(f"it holds {text}, which is no finite number")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
