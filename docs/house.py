"""The rooms of `runtime/pixrt`, measured from the imports. rooms.py draws them.

A room is a folder of `runtime/pixrt`, and the rooms inside one are drawn in it. A floor is the longest way down.
"""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp

SOURCES = Path(__file__).parent.parent / "runtime"
# What stands beside the rooms and is in no one's way: the names of `import pixrt`, the version, `python -m pixrt`.
ENTRANCES = {"pixrt", "__main__", "_version"}


@dataclass(frozen=True, slots=True)
class House:
    """The rooms: modules in each (those of inner rooms included), what each imports, and the rooms inside."""

    modules: dict[str, int]
    arrows: set[tuple[str, str]]
    inner: dict[str, list[str]]
    loose: set[str]  # modules at the top that are no room

    @property
    def rooms(self) -> list[str]:
        """Every room, those inside others as `room.inner`."""
        return sorted(
            [*(set(self.modules) - self.loose), *(f"{room}.{name}" for room in self.inner for name in self.inner[room])]
        )

    def floors(self) -> list[list[str]]:
        """Rooms and loose modules by the longest way down to one that imports none, the highest first."""
        beneath = {name: {to for at, to in self.arrows if at == name} for name in self.modules}

        @cache
        def height(name: str) -> int:
            return 1 + max((height(to) for to in beneath[name]), default=-1)

        found: dict[int, list[str]] = defaultdict(list)
        for name in sorted(self.modules):
            found[height(name)].append(name)
        return [found[floor] for floor in sorted(found, reverse=True)]

    def drawn(self) -> set[tuple[str, str]]:
        """The arrows that no others imply."""
        reach = set(self.arrows)
        while more := {(a, d) for a, b in reach for c, d in reach if b == c} - reach:
            reach |= more
        return {(a, b) for a, b in self.arrows if not any((a, c) in reach and (c, b) in reach for c in self.modules)}


def measure() -> House:
    """Read the house out of the imports of pixrt."""
    graph = grimp.build_graph("pixrt", cache_dir=None)
    top = {name.split(".")[1]: graph.find_children(name) for name in graph.find_children("pixrt")}
    modules: dict[str, int] = defaultdict(int)
    inner = {
        room: sorted(child.split(".")[2] for child in children if graph.find_children(child))
        for room, children in top.items()
    }
    arrows = set()
    for module in graph.modules:
        room = _room(module)
        if room in ENTRANCES:
            continue
        modules[room] += 1
        arrows |= {(room, _room(name)) for name in graph.find_modules_directly_imported_by(module)}
    return House(
        dict(modules),
        {(a, b) for a, b in arrows if a != b and b not in ENTRANCES},
        {room: names for room, names in inner.items() if names},
        {room for room, children in top.items() if not children and room not in ENTRANCES},
    )


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "pixrt"


def contract(room: str) -> str:
    """What a room says of itself: the first sentence of its docstring."""
    path = SOURCES / "pixrt" / room.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    said = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    first = re.split(r"(?<=[.])\s", said.split("\n\n")[0].replace("\n", " "))[0]
    return first.split(": `")[0].rstrip(".")


def table(house: House) -> str:
    """The rooms in a Markdown table, the highest floor first."""
    lines = ["| floor | room | modules | what it is | imports |", "|---|---|---|---|---|"]
    floors = house.floors()
    for at, floor in enumerate(floors):
        for room in floor:
            name = f"`{room}.py`" if room in house.loose else f"`{room}/`"
            inside = "".join(f" `{part}/`" for part in house.inner.get(room, ()))
            below = [other for lower in floors for other in lower if (room, other) in house.arrows]
            imports = ", ".join(below) or "nothing of pixrt"
            said = contract(room) + (f". Inside:{inside}" if inside else "")
            lines.append(f"| {len(floors) - 1 - at} | {name} | {house.modules[room]} | {said} | {imports} |")
    return "\n".join(lines)
