"""Masks: painted by mouse, fingers and keys, loaded, and what they are for; and painting back the original."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from browsing import Open, Served, Ui, picture
from pixrt import Editor
from shapes import BLUE, SCENE, pixels

MASK = SCENE.parent / "mask.png"


@pytest.fixture
def painting(ui: Ui) -> Ui:
    """The window to paint a mask in."""
    ui.bring(SCENE)
    ui.button("mask.paint").click()
    return ui


def canvas(ui: Ui) -> Locator:
    return ui.dialog.get_by_role("application", name=ui.t("mask.canvas"))


def share(ui: Ui) -> int:
    """Percent of the picture that are painted."""
    said = ui.dialog.get_by_role("status").filter(has_text="%").first
    expect(said).to_be_visible()
    found = re.search("[0-9]+", said.inner_text())
    assert found is not None
    return int(found[0])


def expect_share(ui: Ui, percent: int) -> None:
    expect(ui.dialog.get_by_role("status").first).to_have_text(ui.t("mask.share", percent=percent))


def stroke(ui: Ui, *points: tuple[float, float], button: Any = "left") -> None:
    """Paint from point to point; places are shares of the picture's width and height."""
    box = canvas(ui).bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    ui.page.mouse.move(*places[0])
    ui.page.mouse.down(button=button)
    for place in places[1:]:
        ui.page.mouse.move(*place, steps=5)
    ui.page.mouse.up(button=button)


def mask_of(ui: Ui) -> np.ndarray[Any, Any]:
    """Where the mask of the composing part is white."""
    preview = ui.compose.get_by_role("img", name=ui.t("mask.preview"))
    expect(preview).to_be_visible()
    preview.evaluate("image => image.decode()")
    shades, width = preview.evaluate(
        """(image) => {
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
          const paper = canvas.getContext("2d", { willReadFrequently: true });
          paper.drawImage(image, 0, 0);
          const { data } = paper.getImageData(0, 0, canvas.width, canvas.height);
          return [[...data].filter((_, at) => at % 4 === 0), canvas.width];
        }"""
    )
    return np.asarray(shades).reshape(-1, width) > 127


def test_brush_eraser_and_the_buttons(painting: Ui) -> None:
    """Each changes how much of the picture is painted; undo and redo go through all of it."""
    expect_share(painting, 0)
    stroke(painting, (0.2, 0.2), (0.8, 0.2))
    painted = share(painting)
    assert painted > 2
    painting.button("mask.eraser").click()
    stroke(painting, (0.1, 0.2), (0.5, 0.2))
    erased = share(painting)
    assert 0 < erased < painted
    painting.button("mask.invert").click()
    assert abs(share(painting) - (100 - erased)) <= 1
    painting.button("mask.fill").click()
    expect_share(painting, 100)
    painting.button("mask.clear").click()
    expect_share(painting, 0)
    for percent in (100, 100 - erased, erased, painted, 0):
        painting.button("mask.undo", painting.dialog).click()
        assert abs(share(painting) - percent) <= 1
    canvas(painting).focus()
    painting.page.keyboard.press("Control+Shift+Z")
    expect_share(painting, painted)
    painting.page.keyboard.press("Control+z")
    expect_share(painting, 0)
    painting.button("mask.brush").click()
    stroke(painting, (0.2, 0.5), (0.8, 0.5))
    stroke(painting, (0.1, 0.5), (0.9, 0.5), button="right")  # which erases
    assert share(painting) <= 1


def test_a_larger_brush_paints_more(painting: Ui) -> None:
    stroke(painting, (0.5, 0.5), (0.51, 0.5))
    small = share(painting)
    painting.button("mask.clear").click()
    painting.dialog.get_by_label(re.compile("^Size")).fill("30")
    stroke(painting, (0.5, 0.5), (0.51, 0.5))
    assert share(painting) > 3 * small


def test_the_mask_is_painted_by_keys_alone(painting: Ui) -> None:
    """The window opens with the painting area in focus."""
    expect(canvas(painting)).to_be_focused()
    keys = painting.page.keyboard
    for key in ("]", "]", "]", "Enter", "ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        keys.press(key)
    painted = share(painting)
    assert painted > 3
    for key in ("e", "Space"):
        keys.press(key)
    assert share(painting) < painted
    keys.press("i")
    assert share(painting) > 50
    keys.press("Control+z")
    keys.press("Control+z")
    expect_share(painting, painted)
    keys.press("Control+Enter")
    expect(painting.dialog).to_have_count(0)
    assert abs(round(100 * mask_of(painting).mean()) - painted) <= 1


def test_escape_asks_before_what_was_painted_is_lost(painting: Ui) -> None:
    stroke(painting, (0.2, 0.2), (0.8, 0.2))
    painting.page.keyboard.press("Escape")
    expect(painting.dialog).to_contain_text(painting.t("mask.leave"))
    painting.page.keyboard.press("Escape")
    expect(painting.dialog).to_have_count(0)
    expect(painting.compose).to_contain_text(painting.t("mask.all"))


def test_a_masked_edit_leaves_the_rest_as_it_was(painting: Ui, editor: Editor, tmp_path: Path) -> None:
    """Every pixel outside the mask is the source's; inside it is what the Python API makes with that mask."""
    painting.dialog.get_by_label(re.compile("^Size")).fill("20")
    stroke(painting, (0.3, 0.75), (0.7, 0.75))
    painting.button("mask.done").click()
    mask = mask_of(painting)
    assert 0.05 < mask.mean() < 0.6
    painting.edit(BLUE, steps=3, seed=4)
    made = pixels(picture(painting.download()))
    assert np.array_equal(made[~mask], pixels(picture(SCENE))[~mask])
    assert not np.array_equal(made[mask], pixels(picture(SCENE))[mask])
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "painted.png")
    expected = editor.edit(SCENE, BLUE, mask=tmp_path / "painted.png", steps=3, seed=4)
    assert np.array_equal(made, pixels(expected.image))


def test_a_mask_is_loaded_changed_and_removed(ui: Ui, tmp_path: Path) -> None:
    ui.bring(SCENE)
    ui.give(ui.button("mask.load"), MASK)
    with Image.open(MASK) as file:
        assert np.array_equal(mask_of(ui), np.asarray(file.convert("L")) > 127)
    ui.button("mask.change").click()
    ui.button("mask.invert").click()
    ui.button("mask.done").click()
    expect(ui.dialog).to_have_count(0)
    with Image.open(MASK) as file:
        assert np.array_equal(mask_of(ui), np.asarray(file.convert("L")) <= 127)
    ui.button("mask.remove").click()
    expect(ui.compose).to_contain_text(ui.t("mask.all"))
    Image.new("RGB", (32, 32), "white").save(tmp_path / "small.png")
    ui.give(ui.button("mask.load"), tmp_path / "small.png")
    expect(ui.compose).to_contain_text("32 × 32")
    assert mask_of(ui).all()
    (tmp_path / "none.png").write_text("none")
    ui.give(ui.button("mask.load"), tmp_path / "none.png")
    expect(ui.compose).to_contain_text(ui.t("mask.unreadable", name="none.png"))


def test_a_mask_is_painted_with_a_finger(opening: Open, server: Served) -> None:
    ui = opening(server, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    ui.bring(SCENE)
    ui.button("mask.paint").tap()
    box = canvas(ui).bounding_box()
    assert box is not None
    ui.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert share(ui) > 0
    ui.button("mask.done").tap()
    assert mask_of(ui).any()


def test_a_part_is_filled_anew(opening: Open, text_server: Served) -> None:
    """Inpainting, with a text-to-image model; it wants a mask, and says so."""
    ui = opening(text_server)
    ui.choose_task("inpaint")
    ui.bring(SCENE)
    ui.instruction.fill("a red circle")
    ui.set("steps", 2)
    ui.run("inpaint")
    expect(ui.compose).to_contain_text(ui.t("check.mask"))
    ui.give(ui.button("mask.load"), MASK)
    expect(ui.compose).not_to_contain_text(ui.t("check.mask"))
    mask = mask_of(ui)
    ui.run("inpaint")
    ui.has(2)
    made = pixels(picture(ui.download()))
    assert np.array_equal(made[~mask], pixels(picture(SCENE))[~mask])


def test_the_original_is_painted_back(ui: Ui) -> None:
    """In the browser alone: where it is painted, the source's pixels; elsewhere the result's."""
    ui.bring(SCENE)
    ui.edit(BLUE, steps=2, seed=1)
    result = pixels(picture(ui.download()))
    ui.button("mask.back").click()
    ui.button("mask.backDone").click()
    expect(ui.dialog).to_contain_text(ui.t("mask.nothingBack"))
    ui.dialog.get_by_label(re.compile("^Size")).fill("30")
    stroke(ui, (0.25, 0.05), (0.25, 0.95))
    ui.button("mask.backDone").click()
    expect(ui.rows).to_have_count(3)
    made, source = pixels(picture(ui.download())), pixels(picture(SCENE))
    assert np.abs(made - source)[:, 8:24].max() <= 1  # well within the stroke, whose edge is soft
    assert np.array_equal(made[:, 40:], result[:, 40:])
    expect(ui.row).to_have_attribute("aria-level", "3")
    expect(ui.viewer).to_contain_text(ui.t("result.ai", model="pixrt-shapes"))
