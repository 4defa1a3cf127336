"""Contact sheets: rows of pictures with a caption under each, in columns. Must not import PyTorch."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pixrt_export.data.pairs import PairSet

GAP, MARGIN, LINE, FONT_SIZE = 6, 14, 16, 12  # pixels
INK, FAINT, PAPER, EMPTY = (30, 30, 30), (120, 120, 120), (255, 255, 255), (238, 238, 238)
RIGHT, WRONG = (30, 140, 60), (200, 40, 40)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """Some pictures uint8 [H, W, 3] side by side (None: an empty place), a caption, and whether it is right."""

    pictures: tuple[NDArray[np.uint8] | None, ...]
    caption: str
    right: bool | None = None


def contact_sheet(
    rows: Sequence[SheetRow], *, titles: Sequence[str], across: int = 3, side: int = 128, lines: int = 3
) -> Image.Image:
    """Lay rows out in `across` columns, from the top down, every picture in a square of `side` pixels.

    `titles` name the pictures of a row, over each column. A caption has at most `lines` lines: more is cut. A row that
    is right or wrong has its caption and a bar in green or red.
    """
    places = max((len(row.pictures) for row in rows), default=len(titles))
    width = places * (side + GAP) - GAP
    captions = [_wrapped(row.caption, width, lines) for row in rows]
    height = side + GAP + LINE * max(map(len, captions), default=0)
    down = max(1, -(-len(rows) // across))
    across = max(1, -(-len(rows) // down))  # fewer if they are enough
    sheet = Image.new("RGB", (across * (width + 2 * MARGIN), MARGIN + LINE + down * (height + MARGIN)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        column, line = divmod(number, down)
        left, top = column * (width + 2 * MARGIN) + MARGIN, MARGIN + LINE + line * (height + MARGIN)
        if line == 0:
            for place, title in enumerate(titles):
                pen.text((left + place * (side + GAP), MARGIN / 2), title, FAINT, _font())
        _paint_row(sheet, row, caption, (left, top), side)
    return sheet


def world_sheet(pairs: PairSet, count: int, *, size: int = 64, across: int = 3) -> Image.Image:
    """The first `count` samples of a training set: source, answer, and the instruction under them."""
    rows = []
    for index in range(min(count, len(pairs))):
        pair = pairs.load(index, size)
        rows.append(SheetRow((pair.source, pair.target), pair.instruction))
    return contact_sheet(rows, titles=("source", "answer"), across=across)


def _paint_row(sheet: Image.Image, row: SheetRow, caption: Sequence[str], corner: tuple[int, int], side: int) -> None:
    pen, (left, top) = ImageDraw.Draw(sheet), corner
    for place, pixels in enumerate(row.pictures):
        x = left + place * (side + GAP)
        if pixels is None:
            pen.rectangle((x, top, x + side - 1, top + side - 1), EMPTY)
            continue
        picture = _fitted(pixels, side)
        at = (x + (side - picture.width) // 2, top + (side - picture.height) // 2)
        sheet.paste(picture, at)
        # A hairline around it: a white picture on white paper has no edge of its own.
        pen.rectangle((at[0] - 1, at[1] - 1, at[0] + picture.width, at[1] + picture.height), outline=FAINT)
    ink = INK
    if row.right is not None:
        ink = RIGHT if row.right else WRONG
        pen.rectangle((left - 7, top - 1, left - 4, top + side), ink)
    for number, line in enumerate(caption):
        pen.text((left, top + side + GAP // 2 + number * LINE), line, ink, _font())


def _fitted(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """A picture whose longer side is `side`; small ones keep their pixels visible."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize(size, how)


def _wrapped(text: str, width: int, most: int) -> list[str]:
    """The text in `most` lines at most, of at most `width` pixels, cut with an ellipsis if it is longer."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _font().getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} ..."]
    return [_cut(line, width) for line in lines]


def _cut(line: str, width: int) -> str:
    while _font().getlength(line) > width and len(line) > len("..."):
        line = f"{line.removesuffix('...')[:-1].rstrip()}..."
    return line


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
