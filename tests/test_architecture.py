"""The house stays small, and its picture and table in docs/architecture.md are of today."""

import re
from pathlib import Path

import pytest

from house import ENTRANCES, House, measure
from rooms import PAGE, PICTURE, draw, with_table

ROOMS, FLOORS, LOOSE = 20, 12, 8
PACKAGE = Path(__file__).parent.parent / "runtime" / "pixrt"


@pytest.fixture(scope="module")
def house() -> House:
    return measure()


def test_the_house_fits_on_one_screen(house: House) -> None:
    assert "core" in house.rooms
    assert "backends.tensorrt" in house.rooms
    assert len(house.rooms) <= ROOMS
    assert len(house.floors()) <= FLOORS
    assert len(house.loose | ENTRANCES) <= LOOSE
    assert len(list(PACKAGE.glob("*.py"))) <= LOOSE


def test_the_picture_and_the_table_are_current(house: House) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "<!-- rooms -->" in page
    assert with_table(page, house) == page, "run python docs/rooms.py"
    assert draw(house) == PICTURE.read_text(encoding="utf-8"), "run python docs/rooms.py"


def test_the_walk_names_rooms_once_each(house: House) -> None:
    (walk,) = re.findall(r"<!-- walk -->\n(.*?)<!-- /walk -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    rooms = re.findall(r"^\| (\w+) \|", walk, re.MULTILINE)[1:]
    assert rooms[0] == "cli"
    assert len(rooms) == len(set(rooms))
    assert set(rooms) <= set(house.modules)


def test_the_files_that_the_recipes_name_are_there(house: House) -> None:
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE.read_text(encoding="utf-8"))
    in_rooms = [name for name in named if name.split("/")[0] in house.modules]
    assert in_rooms
    for name in in_rooms:
        assert (PACKAGE / name).exists(), name
