"""The house stays small, and its picture and table in docs/architecture.md are of today."""

import re
import sys
from pathlib import Path
from types import FrameType

import pytest

from house import ENTRANCES, House, measure
from rooms import PAGE, PICTURE, draw, with_table
from shapes import Run

ROOMS, FLOORS, LOOSE = 22, 12, 8
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


def test_the_walk_is_that_of_an_edit(house: House, run: Run, tmp_path: Path) -> None:
    """The rooms in the order in which the functions of an edit, from the command line to the file, first enter them."""
    (walk,) = re.findall(r"<!-- walk -->\n(.*?)<!-- /walk -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    told = re.findall(r"^\| (\w+) \|", walk, re.MULTILINE)[1:]
    words = ["edit", "scene.png", "invert the colors", "--steps", 2, "--seed", 1, "--backend", "ort-cpu"]
    assert run(*words, "-o", "first.png").code == 0  # imports what it needs: class bodies are no steps of an edit
    entered: list[str] = []

    def enter(frame: FrameType, event: str, argument: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("pixrt.") and frame.f_code.co_name != "<module>":
            room = module.split(".")[1]
            if room not in entered:
                entered.append(room)

    sys.setprofile(enter)
    try:
        assert run(*words, "-o", "second.png").code == 0
    finally:
        sys.setprofile(None)
    assert (tmp_path / "second.png").read_bytes() == (tmp_path / "first.png").read_bytes()
    assert told == [room for room in entered if room in house.rooms or room == "files"]
    assert len(told) == len(set(told))


def test_the_files_that_the_recipes_name_are_there(house: House) -> None:
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE.read_text(encoding="utf-8"))
    in_rooms = [name for name in named if name.split("/")[0] in house.modules]
    assert in_rooms
    for name in in_rooms:
        assert (PACKAGE / name).exists(), name
