"""Text on pictures: Pillow's own font, its widths, and lines that fit. Must not import numpy.

The font has ASCII and some typographic signs: accents are left off, and letters of other scripts are boxes.
"""

import functools
import math
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

_ELLIPSIS = " ..."


@functools.cache
def font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    """The font at a size in pixels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def width_of(text: str, size: int) -> int:
    """The width in pixels of one line at a font size."""
    return math.ceil(font(size).getlength(text))


def wrapped(text: str, width: int, size: int, most: int) -> list[str]:
    """A text in lines of at most `width` pixels, cut with an ellipsis after `most` of them.

    A word that is longer than a line goes on in the next; white space and line breaks are single spaces.
    """
    room = width - width_of(_ELLIPSIS, size)
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    lines, rest = [""], bare.split()[::-1]
    while rest and len(lines) <= most:
        word = rest.pop()
        longer = f"{lines[-1]} {word}".lstrip()
        if width_of(longer, size) <= room:
            lines[-1] = longer
        elif lines[-1]:
            rest.append(word)
            lines.append("")
        else:
            fits = next(count for count in range(1, len(word)) if width_of(word[: count + 1], size) > room)
            lines[-1] = word[:fits]
            rest.append(word[fits:])
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + _ELLIPSIS]
