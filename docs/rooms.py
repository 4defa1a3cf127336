"""The rooms as a picture, floor above floor, and as a table in architecture.md: python docs/rooms.py.

An arrow over several floors gets a place of its own on each, so that it passes between the rooms.
"""

import re
import textwrap
from functools import partial
from html import escape
from itertools import pairwise, permutations
from pathlib import Path

from house import House, contract, measure, table

PICTURE = Path(__file__).parent / "rooms.svg"
PAGE = Path(__file__).parent / "architecture.md"
WIDTH, BOX_WIDTH, BOX_HEIGHT, BETWEEN, RISE, TOP = 1000, 232, 86, 16, 50, 84
INK, FAINT, LINE, PAPER = "#1e293b", "#64748b", "#94a3b8", "#ffffff"
# The highest floor's colour first.
TINTS = ("#e0e7ff", "#dbeafe", "#cffafe", "#ccfbf1", "#dcfce7", "#ecfccb", "#fef9c3", "#ffedd5", "#fee2e2", "#fce7f3")

Place = tuple[int, str, str]  # a floor, and the room there (twice), or the ends of an arrow that passes it
Floors = list[tuple[Place, ...]]


def draw(house: House) -> str:
    """The SVG text."""
    paths = _paths(house)
    floors = _ordered(paths, len(house.floors()))
    x = _across(floors)
    height = TOP + len(floors) * (BOX_HEIGHT + RISE) - RISE + 28
    said = (
        f"{len(house.rooms)} rooms on {len(floors)} floors, {sum(house.modules.values())} modules, "
        f"{len(house.arrows)} arrows between rooms; those that others imply are not drawn"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0,0.6 L7.4,4 L0,7.4 z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" rx="14" fill="{PAPER}"/>',
            f'<text x="28" y="38" font-size="20" font-weight="700" fill="{INK}">The rooms of runtime/pixrt</text>',
            f'<text x="28" y="60" font-size="13" fill="{FAINT}">{escape(said)}</text>',
            *(_arrow(path, x) for path in paths if len(path) > 1),
            *(
                _box(house, place[1], x[place], _y(place), TINTS[place[0] * len(TINTS) // len(floors)])
                for floor in floors
                for place in floor
                if place[1] == place[2]
            ),
            "</svg>\n",
        ]
    )


def _paths(house: House) -> list[list[Place]]:
    """Every drawn arrow as the places that it passes, its ends included; and every room as a path of one place."""
    floor_of = {room: at for at, floor in enumerate(house.floors()) for room in floor}
    arrows = [
        [
            (floor_of[start], start, start),
            *((at, start, end) for at in range(floor_of[start] + 1, floor_of[end])),
            (floor_of[end], end, end),
        ]
        for start, end in sorted(house.drawn())
    ]
    return [[(at, room, room)] for room, at in floor_of.items()] + arrows


def _ordered(paths: list[list[Place]], count: int) -> Floors:
    """The places of each floor from left to right, so that arrows are short and cross seldom."""
    steps = sorted({step for path in paths for step in pairwise(path)})
    floors: Floors = [
        tuple(sorted({place for path in paths for place in path if place[0] == at})) for at in range(count)
    ]

    def cost(at: int, order: tuple[Place, ...]) -> float:
        tried = [*floors[:at], order, *floors[at + 1 :]]
        x = _across(tried)
        near = [(x[a], x[b], a[0]) for a, b in steps if at in (a[0], b[0])]
        crossings = sum((a - c) * (b - d) < 0 for a, b, p in near for c, d, q in near if p == q) / 2
        return 4e4 * crossings + sum((a - b) ** 2 for a, b, _ in near)

    for _ in range(4):
        for at in (*range(count), *reversed(range(count))):
            floors[at] = min(permutations(sorted(floors[at])), key=partial(cost, at))
    return floors


def _across(floors: Floors) -> dict[Place, float]:
    """The middle of every place; each floor stands in the middle of the picture."""
    x = {}
    for floor in floors:
        widths = [BOX_WIDTH if place[1] == place[2] else BOX_WIDTH / 4 for place in floor]
        left = (WIDTH - sum(widths) - BETWEEN * (len(floor) - 1)) / 2
        for place, width in zip(floor, widths, strict=True):
            x[place] = left + width / 2
            left += width + BETWEEN
    return x


def _y(place: Place) -> int:
    return TOP + place[0] * (BOX_HEIGHT + RISE)


def _arrow(path: list[Place], x: dict[Place, float]) -> str:
    """From the lower edge of a room to the upper edge of another, straight through the floors between."""
    across = [x[place] for place in path]
    across[0], across[-1] = _leaning(across[0], across[1]), _leaning(across[-1], across[-2])
    line = f"M{across[0]:.0f},{_y(path[0]) + BOX_HEIGHT}"
    for at, (here, there) in enumerate(pairwise(across), 1):
        last = at == len(path) - 1
        end = _y(path[at]) - last
        begin = _y(path[at - 1]) + BOX_HEIGHT
        line += f" C{here:.0f},{begin + RISE * 0.6:.0f} {there:.0f},{end - RISE * 0.6:.0f} {there:.0f},{end}"
        line += "" if last else f" V{end + BOX_HEIGHT}"
    return f'<path d="{line}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#tip)"/>'


def _leaning(middle: float, other: float) -> float:
    """Where on a room's edge an arrow from or to `other` stands: arrows of two rooms not on one point."""
    return middle + max(-70.0, min(70.0, 0.2 * (other - middle)))


def _box(house: House, room: str, middle: float, top: int, tint: str) -> str:
    left, count, inside = middle - BOX_WIDTH / 2, house.modules[room], house.inner.get(room, [])
    title = f"{room}.py" if room in house.loose else room
    lines = textwrap.wrap(contract(room), 34, max_lines=2 if inside else 3, placeholder=" …")
    parts = [
        f'<rect x="{left:.0f}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="10" fill="{tint}" '
        f'stroke="{LINE}"/>',
        f'<text x="{left + 12:.0f}" y="{top + 24}" font-size="16" font-weight="700" fill="{INK}">{title}</text>',
        f'<text x="{left + BOX_WIDTH - 12:.0f}" y="{top + 23}" font-size="12" fill="{FAINT}" text-anchor="end">'
        f"{count} module{'s' * (count > 1)}</text>",
    ]
    parts += [
        f'<text x="{left + 12:.0f}" y="{top + 43 + 15 * at}" font-size="12" fill="{INK}">{escape(line)}</text>'
        for at, line in enumerate(lines)
    ]
    if inside:
        said = "  ".join(f"{name}/" for name in inside)
        parts.append(
            f'<text x="{left + 12:.0f}" y="{top + BOX_HEIGHT - 12}" font-size="12" fill="{FAINT}" '
            f'font-family="monospace">{said}</text>'
        )
    return "\n".join(parts)


def with_table(page: str, house: House) -> str:
    """The page with the table of today."""
    return re.sub(r"(?<=<!-- rooms -->\n).*(?=\n<!-- /rooms -->)", lambda _: table(house), page, flags=re.DOTALL)


if __name__ == "__main__":
    house = measure()
    PICTURE.write_text(draw(house), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), house), encoding="utf-8")
