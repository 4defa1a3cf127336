"""The contact sheet of a sweep: panels of labelled rows and columns, on as many pages as they take.

The first axis that was swept goes across, the second down; every combination of the others has such a panel of its own,
headed by its values. Labels are never cut: columns are as wide as they need. Must not import a backend.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pixrt.apps.lettering import font, width_of, wrapped
from pixrt.apps.sweep import Axis, Cell, Value, several
from pixrt.options.parsing import spell

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

MIN_SIDE, MAX_SIDE = 160, 320  # the longer side of a picture on the sheet, pixels
MAX_WIDTH, MAX_HEIGHT = 2400, 3200  # of a page
GAP, MARGIN, PANEL_GAP = 8, 24, 40
SMALL, LARGE = 14, 20  # font sizes, of a parameter's name and of its value
TITLE_WIDTH, TITLE_LINES, FACTS_LINES = 480, 5, 3
INK, FAINT, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)
_SMALL_LINE, _LARGE_LINE = SMALL + 5, LARGE + 6
_TITLE_HEIGHT = TITLE_LINES * _LARGE_LINE + FACTS_LINES * _SMALL_LINE

Size = tuple[int, int]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Label:
    """A parameter's name above its value; both empty if there is nothing to say."""

    name: str = ""
    value: str = ""

    @property
    def size(self) -> Size:
        """Width and height in pixels, with a gap beside and below it."""
        if not self.name:
            return 0, 0
        return max(width_of(self.name, SMALL), width_of(self.value, LARGE)) + GAP, _SMALL_LINE + _LARGE_LINE


@dataclass(frozen=True, slots=True)
class Panel:
    """One grid: the places in the sweep of its cells `[row][column]`, and what all of them have in common."""

    heading: str
    columns: tuple[Label, ...]
    rows: tuple[Label, ...]
    cells: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Measures:
    """What all panels share, in pixels: pictures, columns, and the room of row labels, column labels and headings."""

    picture: Size
    column: int
    side: int
    head: int
    heading: int

    def size(self, panel: Panel) -> Size:
        """Width and height of a panel."""
        width = self.side + len(panel.columns) * (self.column + GAP) - GAP
        height = self.heading + self.head + len(panel.rows) * (self.picture[1] + GAP) - GAP
        return max(width, width_of(panel.heading, LARGE)), height


@dataclass(frozen=True, slots=True)
class Page:
    """Panels, each with its upper left corner."""

    size: Size
    panels: tuple[tuple[Panel, Size], ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pages, laid out."""

    measures: Measures
    pages: tuple[Page, ...]


def plan_sheet(axes: Sequence[Axis], cells: Sequence[Cell], size: Size) -> Sheet:
    """Lay out the cells of a sweep, pictures of `size` (width, height) in pixels."""
    across, down, *rest = [*several(axes), _NOTHING, _NOTHING][: max(2, len(several(axes)))]
    measures = _measures(across, down, size, headed=bool(rest))
    wide = (MAX_WIDTH - 2 * MARGIN - measures.side + GAP) // (measures.column + GAP)
    room = MAX_HEIGHT - MARGIN - _top(measures) - measures.heading - measures.head
    high = (room + GAP) // (measures.picture[1] + GAP)
    place = {tuple(cell.values.get(axis.name, "") for axis in (across, down, *rest)): cell.index for cell in cells}
    parts = [*itertools.product(_chunks(down.values, high), _chunks(across.values, wide))]
    lines: list[list[Panel]] = []
    for values in itertools.product(*(axis.values for axis in rest[::-1])):
        heading = ", ".join(f"{_spoken(axis)} {spell(value)}" for axis, value in zip(rest[::-1], values, strict=True))
        for some_rows, some_columns in parts:
            panel = Panel(
                heading,
                tuple(_label(across, value) for value in some_columns),
                tuple(_label(down, value) for value in some_rows),
                tuple(tuple(place[column, row, *values[::-1]] for column in some_columns) for row in some_rows),
            )
            # The values of the axis after the two stand side by side, as many as there is room for.
            is_first = not rest or values[-1] == rest[0].values[0]
            if is_first or len(parts) > 1 or _width(measures, [*lines[-1], panel]) > MAX_WIDTH - 2 * MARGIN:
                lines.append([])
            lines[-1].append(panel)
    return Sheet(measures, tuple(_pages(measures, lines)))


def fitted(size: Size) -> Size:
    """The size on the sheet: small pictures enlarged a whole number of times, large ones reduced."""
    longer = max(size)
    if longer < MIN_SIDE:
        times = -(-MIN_SIDE // longer)
        return size[0] * times, size[1] * times
    scale = min(1.0, MAX_SIDE / longer)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def draw_page(
    sheet: Sheet,
    page: Page,
    source: "Image.Image",
    picture_of: Callable[[int], "Image.Image"],
    *,
    title: str,
    facts: str,
) -> "Image.Image":
    """Paint a page. `picture_of` gives the RGB picture at a place of the sweep: one is held at a time.

    `title` and `facts` stand beside the source, cut if they are longer than some lines.
    """
    from PIL import Image, ImageDraw

    measures, image = sheet.measures, Image.new("RGB", page.size, PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN), "source", FAINT, font(SMALL))
    _paint(image, source, (MARGIN, MARGIN + _SMALL_LINE), measures.picture)
    left, top = 2 * MARGIN + measures.picture[0], MARGIN + _SMALL_LINE
    for text, most, size, step, ink in (
        (title, TITLE_LINES, LARGE, _LARGE_LINE, INK),
        (facts, FACTS_LINES, SMALL, _SMALL_LINE, FAINT),
    ):
        for line in wrapped(text, page.size[0] - left - MARGIN, size, most):
            pen.text((left, top), line, ink, font(size))
            top += step
    for panel, (left, top) in page.panels:
        pen.text((left, top), panel.heading, INK, font(LARGE))
        top += measures.heading
        columns = [left + measures.side + number * (measures.column + GAP) for number in range(len(panel.columns))]
        for x, label in zip(columns, panel.columns, strict=True):
            _paint_label(pen, label, (x, top))
        top += measures.head
        for label, row in zip(panel.rows, panel.cells, strict=True):
            _paint_label(pen, label, (left, top))
            for x, index in zip(columns, row, strict=True):
                _paint(image, picture_of(index), (x, top), measures.picture)
            top += measures.picture[1] + GAP
    return image


_NOTHING = Axis("", ("",))


def _measures(across: Axis, down: Axis, size: Size, *, headed: bool) -> Measures:
    picture = fitted(size)
    columns, rows = ([_label(axis, value).size for value in axis.values] for axis in (across, down))
    return Measures(
        picture=picture,
        column=max(picture[0], *(width for width, _ in columns)),
        side=max(width for width, _ in rows),
        head=columns[0][1],
        heading=_LARGE_LINE + GAP if headed else 0,
    )


def _pages(measures: Measures, lines: Sequence[Sequence[Panel]]) -> Iterator[Page]:
    """Lines of panels below each other, until a page is full."""
    width = max(measures.picture[0] + MARGIN + TITLE_WIDTH, *(_width(measures, line) for line in lines)) + 2 * MARGIN
    placed: list[tuple[Panel, Size]] = []
    top = _top(measures)
    for line in lines:
        height = max(measures.size(panel)[1] for panel in line)
        if placed and top + height + MARGIN > MAX_HEIGHT:
            yield Page((width, top - PANEL_GAP + MARGIN), tuple(placed))
            placed, top = [], _top(measures)
        left = MARGIN
        for panel in line:
            placed.append((panel, (left, top)))
            left += measures.size(panel)[0] + PANEL_GAP
        top += height + PANEL_GAP
    yield Page((width, top - PANEL_GAP + MARGIN), tuple(placed))


def _top(measures: Measures) -> int:
    """Where panels begin, below the source and the title."""
    return MARGIN + _SMALL_LINE + max(measures.picture[1], _TITLE_HEIGHT) + PANEL_GAP


def _width(measures: Measures, line: Sequence[Panel]) -> int:
    return sum(measures.size(panel)[0] + PANEL_GAP for panel in line) - PANEL_GAP


def _chunks(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """Parts of at most `most` items (1 if that is less), about equally long."""
    count = -(-len(items) // max(1, most))
    length = -(-len(items) // count)
    return [items[first : first + length] for first in range(0, len(items), length)]


def _label(axis: Axis, value: Value) -> Label:
    return Label(_spoken(axis), spell(value))


def _spoken(axis: Axis) -> str:
    return axis.name.replace("_", " ")


def _paint(sheet: "Image.Image", picture: "Image.Image", corner: Size, size: Size) -> None:
    """A picture with a hairline around it: white on white paper it has no edge of its own."""
    from PIL import Image, ImageDraw

    how = Image.Resampling.NEAREST if picture.width <= size[0] else Image.Resampling.LANCZOS
    sheet.paste(picture if picture.size == size else picture.resize(size, how), corner)
    (left, top), (width, height) = corner, size
    ImageDraw.Draw(sheet).rectangle((left - 1, top - 1, left + width, top + height), outline=FAINT)


def _paint_label(pen: "ImageDraw.ImageDraw", label: Label, corner: Size) -> None:
    pen.text(corner, label.name, FAINT, font(SMALL))
    pen.text((corner[0], corner[1] + _SMALL_LINE), label.value, INK, font(LARGE))
