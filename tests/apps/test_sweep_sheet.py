"""The contact sheet of a sweep: every cell once, at its place, labelled in full."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixrt.apps import sweep_sheet
from pixrt.apps.lettering import width_of, wrapped
from pixrt.apps.sweep import Axis, file_name, make_cells, several
from pixrt.apps.sweep_sheet import MAX_SIDE, MIN_SIDE, draw_page, fitted, plan_sheet
from pixrt.options.parsing import spell
from pixrt.options.tasks import MAX_SEED


def axis(name: str, values: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Axis]:
    return st.lists(values, min_size=1, max_size=most, unique=True).map(lambda some: Axis(name, tuple(some)))


AXES = st.tuples(
    axis("guidance_scale", st.floats(0, 100), 5),
    axis("image_guidance_scale", st.floats(0, 100), 4),
    axis("steps", st.integers(1, 1000), 3),
    axis("seed", st.integers(0, MAX_SEED), 3),
)


@given(AXES, st.tuples(st.integers(8, 600), st.integers(8, 600)), st.sampled_from([(2400, 3200), (700, 900)]))
@settings(max_examples=100)
def test_a_sheet_shows_every_cell_once(axes: tuple[Axis, ...], size: tuple[int, int], most: tuple[int, int]) -> None:
    cells = make_cells(axes)
    assert len({file_name(cell, axes) for cell in cells}) == len(cells) == math.prod(len(axis.values) for axis in axes)
    assert len({tuple(cell.values.values()) for cell in cells}) == len(cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_sheet, "MAX_WIDTH", most[0])
        patch.setattr(sweep_sheet, "MAX_HEIGHT", most[1])
        sheet = plan_sheet(axes, cells, size)
    seen: list[int] = []
    for page in sheet.pages:
        taken = []
        for panel, (left, top) in page.panels:
            width, height = sheet.measures.size(panel)
            taken.append((left, top, left + width, top + height))
            assert left + width <= page.size[0]
            assert top + height <= page.size[1]
            for label, row in zip(panel.rows, panel.cells, strict=True):
                assert label.size[0] <= sheet.measures.side
                for head, index in zip(panel.columns, row, strict=True):
                    seen.append(index)
                    assert head.size[0] <= sheet.measures.column
                    said = (panel.heading, head.value, label.value)
                    for axis in several(axes):
                        assert any(spell(cells[index].values[axis.name]) in words for words in said)
        for number, one in enumerate(taken):
            for other in taken[:number]:
                assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
    assert sorted(seen) == list(range(len(cells)))


def test_pictures_on_the_sheet_have_a_size_to_be_seen() -> None:
    assert fitted((64, 64)) == (192, 192)
    assert fitted((33, 50)) == (132, 200)
    assert fitted((MIN_SIDE, 20)) == (MIN_SIDE, 20)
    assert fitted((MAX_SIDE * 4, 100)) == (MAX_SIDE, 25)


def test_a_painted_page() -> None:
    """Pixels are enlarged as they are, each picture at its place; the names and values stand beside and above."""
    axes = [Axis("guidance_scale", (1.0, 2.0)), Axis("steps", (3, 4, 5))]
    cells = make_cells(axes)
    noise = np.random.default_rng(0).integers(0, 256, (len(cells) + 1, 40, 40, 3), np.uint8)
    sheet = plan_sheet(axes, cells, (40, 40))
    page = sheet.pages[0]
    painted = draw_page(
        sheet, page, Image.fromarray(noise[-1]), lambda index: Image.fromarray(noise[index]), title="make it", facts="x"
    )
    whole, measures = np.asarray(painted), sheet.measures
    ((panel, (left, top)),) = page.panels
    assert painted.size == page.size
    for row, places in enumerate(panel.cells):
        for column, index in enumerate(places):
            x = left + measures.side + column * (measures.column + sweep_sheet.GAP)
            y = top + measures.head + row * (measures.picture[1] + sweep_sheet.GAP)
            assert cells[index].values == {"guidance_scale": (1.0, 2.0)[column], "steps": (3, 4, 5)[row]}
            np.testing.assert_array_equal(whole[y : y + 160 : 4, x : x + 160 : 4], noise[index])
            assert (whole[top : top + measures.head, x : x + 80] < 128).any()
            assert (whole[y : y + 50, left : left + measures.side - 8] < 128).any()


@given(st.text(max_size=300), st.integers(100, 500), st.integers(1, 4))
def test_wrapped_text(text: str, width: int, most: int) -> None:
    lines = wrapped(text, width, 20, most)
    assert 1 <= len(lines) <= most
    assert all(width_of(line, 20) <= width for line in lines)
    assert wrapped("é" * 9 + "\n x", width, 20, most)[0].startswith("eee")
