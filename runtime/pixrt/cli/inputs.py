"""Where pictures come from: files, or standard input."""

import sys

from pixrt.cli.outputs import STREAM
from pixrt.errors import PictureError

MOST_BYTES = 1 << 29  # of a picture that comes by standard input


def read_input(word: str) -> str | bytes:
    """A picture as a job takes it: the path, or the bytes that come by standard input where it is "-".

    Raises PictureError. Standard input is there to be read once.
    """
    if word != str(STREAM):
        return word
    if sys.stdin is None or sys.stdin.isatty():
        raise PictureError("standard input is a terminal or closed", remedy="Pipe a picture into it, or give a path")
    data: bytes = sys.stdin.buffer.read(MOST_BYTES + 1)
    if not data:
        raise PictureError("standard input is empty", remedy="Pipe a picture into it, or give a path")
    if len(data) > MOST_BYTES:
        raise PictureError(f"standard input has more than {MOST_BYTES >> 20} MiB", remedy="Give a smaller picture")
    return data
