"""Contact sheets: every picture is where it belongs, as it is, and no caption runs out of its place."""

import numpy as np
import pytest

from pixrt_export.world.pairs import WorldPairs
from pixrt_export.world.sheet import EMPTY, PAPER, RIGHT, WRONG, SheetRow, contact_sheet, world_sheet

SIDE = 64


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def colours(sheet: object) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.asarray(sheet).reshape(-1, 3).tolist()}


def test_every_picture_is_there_at_its_size() -> None:
    reds = [(200, 10 * i, 0) for i in range(5)]
    rows = [SheetRow((flat(red), flat((0, 0, 200))), f"number {i}") for i, red in enumerate(reds)]
    pixels = np.asarray(contact_sheet(rows, titles=("one", "two"), across=2, side=SIDE))
    places = []
    for red in reds:
        found = np.argwhere((pixels == red).all(axis=-1))
        assert len(found) == SIDE * SIDE
        places.append(tuple(found.min(axis=0)))
    # Down the first column, then down the second one.
    assert places == sorted(places, key=lambda place: (place[1], place[0]))
    assert len({x for _, x in places}) == 2


def test_pictures_keep_their_shape() -> None:
    pixels = np.asarray(contact_sheet([SheetRow((flat((9, 200, 9), (20, 40)),), "wide")], titles=("",), side=SIDE))
    found = np.argwhere((pixels == (9, 200, 9)).all(axis=-1))
    assert tuple(np.ptp(found, axis=0) + 1) == (SIDE // 2, SIDE)
    assert colours(contact_sheet([SheetRow((flat((9, 200, 9), (300, 300)),), "")], titles=("",), side=SIDE)) >= {
        (9, 200, 9)
    }


@pytest.mark.parametrize(("right", "ink"), [(True, RIGHT), (False, WRONG)])
def test_right_and_wrong_are_marked(right: bool, ink: tuple[int, int, int]) -> None:
    row = SheetRow((flat((0, 0, 0)), None), "turn the circle red", right)
    plain = SheetRow(row.pictures, row.caption)
    marked = colours(contact_sheet([row], titles=("a", "b")))
    assert ink in marked
    assert EMPTY in marked
    assert not {RIGHT, WRONG} & colours(contact_sheet([plain], titles=("a", "b")))


def test_a_long_caption_stays_in_its_place() -> None:
    rows = [SheetRow((flat((0, 0, 0)),), caption) for caption in ("x" * 400, "many words " * 60, "", "short")]
    for lines in (1, 3):
        pixels = np.asarray(contact_sheet(rows, titles=("",), across=2, side=SIDE, lines=lines))
        margins = [0, 1, 2, pixels.shape[1] // 2, -1]
        assert (pixels[:, margins] == PAPER).all()
        assert (pixels[-1] == PAPER).all()


def test_no_rows() -> None:
    assert contact_sheet([], titles=("source", "answer")).size > (0, 0)


def test_the_world() -> None:
    pairs = WorldPairs(12, seed=3, captions=0.3)
    sheet = world_sheet(pairs, 12)
    assert sheet.mode == "RGB"
    assert sheet.tobytes() == world_sheet(pairs, 12).tobytes()
    assert world_sheet(pairs, 100).size == sheet.size
    assert world_sheet(pairs, 4).height < sheet.height
