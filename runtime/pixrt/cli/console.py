"""The lines that the command line prints: results to standard output, everything else to standard error."""

import os
import sys
from contextlib import suppress


def say(line: object) -> None:
    """One line of results. A reader that has gone away does not stop the work: the rest is not printed."""
    try:
        print(plain(str(line)), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def cut(text: object, most: int = 2000) -> str:
    """A text of somebody else's for people, of bounded length."""
    line = str(text)
    return line if len(line) <= most else f"{line[:most]}... ({len(line)} characters)"


def warn(message: str) -> None:
    """One line on standard error."""
    _tell(f"note: {cut(message, 4000)}")


def fail(message: str) -> None:
    """The one line that says why a command failed, on standard error."""
    _tell(f"error: {message}")


def _tell(line: str) -> None:
    if sys.stderr is not None:  # else it would be printed among the results
        with suppress(OSError):
            print(plain(line), file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Control characters spelt out: a file name or a picture's metadata must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
