"""What a client's `size` means: the result measures so many pixels, or the request is refused with what it can measure.

Sizes are (width, height) in pixels. Must not import numpy or Pillow.
"""

import re

from pixrt.errors import PictureError
from pixrt.pictures.geometry import MAX_ASPECT, Size, check_size
from pixrt.serve.problems import Problem

AUTO = "auto"
_LEAST, _MOST = 8, 8192  # of `GenerateOptions.width`


def read_size(text: str) -> Size | None:
    """Width and height out of a text such as `512x768`; None for `auto`. Raises Problem."""
    if text == AUTO:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise Problem(400, "invalid_value", f"size is {text!r:.60}. Write auto, or WIDTHxHEIGHT.", "size")
    return int(match[1]), int(match[2])


def check_new(size: Size, multiple: int) -> None:
    """Whether a picture can be made from text in a size: sides are multiples of what the networks take.

    Raises Problem, which names the nearest that can.
    """
    least, most = -(-_LEAST // multiple) * multiple, _MOST // multiple * multiple
    near = [max(least, min(most, round(side / multiple) * multiple)) for side in size]
    shortest = -(-max(near) // (MAX_ASPECT * multiple)) * multiple
    width, height = (max(side, shortest) for side in near)
    if (width, height) == size:
        check_result(size)
        return
    raise _refused(
        f"size is {spell_size(size)}",
        f"Both sides must be multiples of {multiple} from {least} to {most}, none more than {MAX_ASPECT} times the"
        f" other, such as {width}x{height}",
    )


def check_result(size: Size) -> None:
    """Whether any picture may have a size. Raises Problem."""
    try:
        check_size(*size, f"a picture of size {spell_size(size)}")
    except PictureError as error:
        raise _refused(error.problem, "Ask for a smaller one, or leave size out") from error


def check_shape(size: Size, picture: Size) -> None:
    """Whether a size has a picture's proportions, to the pixel. Raises Problem, which names those that do."""
    (width, height), (wide, high) = size, picture
    as_wide, as_high = (width, _scaled(high, width, wide)), (_scaled(wide, height, high), height)
    if abs(as_wide[1] - height) <= 1 or abs(as_high[0] - width) <= 1:
        return
    ways = ", ".join(spell_size(way) for way in (picture, as_wide, as_high))
    raise _refused(
        f"size is {spell_size(size)}, which would distort the picture of {spell_size(picture)}",
        f"Leave size out, crop the picture first, or use one of its own proportions, such as {ways}",
    )


def spell_size(size: Size) -> str:
    """Width and height as OpenAI writes them."""
    return f"{size[0]}x{size[1]}"


def _scaled(side: int, to: int, of: int) -> int:
    return max(1, (2 * side * to + of) // (2 * of))  # rounded


def _refused(problem: str, remedy: str) -> Problem:
    return Problem(400, "unsupported_value", f"{problem}. {remedy}.", "size")
