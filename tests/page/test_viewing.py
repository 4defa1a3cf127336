"""Looking at pictures: before and after, magnified, as a difference, any two of the history, and the history itself."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from browsing import Ui, Watch, picture
from shapes import BLUE, SCENE, pixels


@pytest.fixture
def edited(ui: Ui) -> Ui:
    """A picture and its edit."""
    ui.bring(SCENE)
    ui.edit(BLUE, steps=2, seed=1)
    return ui


def test_the_divider_is_moved_by_keys_and_by_the_mouse(edited: Ui) -> None:
    divider = edited.viewer.get_by_role("slider", name=edited.t("viewer.divider"))
    before = edited.viewer.locator(".viewer-layer").first

    def shown(percent: int) -> None:
        expect(divider).to_have_value(str(percent))
        expect(divider).to_have_attribute("aria-valuetext", edited.t("viewer.dividerAt", percent=percent))
        expect(before).to_have_css("clip-path", re.compile(rf"inset\(0(px|%)? {100 - percent}%? "))

    box = divider.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    edited.page.mouse.move(box["x"] + box["width"] / 2, middle)
    edited.page.mouse.down()
    edited.page.mouse.move(box["x"] + box["width"] / 4, middle, steps=4)
    edited.page.mouse.up()
    expect(divider).to_have_value(re.compile("^2[0-9]$"))
    divider.press("Home")
    expect(divider).to_have_value("0")
    divider.press("ArrowRight")
    shown(1)
    divider.press("End")
    expect(divider).to_have_value("100")


def test_zoom_by_buttons_keys_and_wheel(edited: Ui) -> None:
    whole = edited.viewer.get_by_role("group", name=edited.t("viewer.zoom")).get_by_role("button").nth(1)
    image = edited.viewer.get_by_role("img").first
    expect(whole).to_have_text("100 %")
    edited.button("viewer.zoomIn", edited.viewer).click()
    expect(whole).to_have_text("125 %")
    expect(image).to_have_css("transform", re.compile("^matrix\\(1.25"))
    whole.click()
    expect(whole).to_have_text("100 %")
    frame = edited.viewer.get_by_role("group", name=edited.t("viewer.frame"))
    frame.focus()
    frame.press("+")
    frame.press("+")
    expect(whole).to_have_text("156 %")
    moved = image.evaluate("each => getComputedStyle(each).transform")
    frame.press("ArrowRight")
    expect(image).not_to_have_css("transform", moved)
    frame.press("0")
    expect(whole).to_have_text("100 %")
    frame.hover()
    edited.page.mouse.wheel(0, -200)
    expect(whole).not_to_have_text("100 %")


def test_the_difference_is_shown_and_counted(edited: Ui, watch: Watch) -> None:
    watch.expect("willReadFrequently")  # the test does
    edited.button("viewer.difference", edited.viewer).click()
    label = edited.t("viewer.differenceOf", a="1. scene.png", b=f"2. {BLUE}")
    canvas = edited.viewer.get_by_role("img", name=label)
    expect(canvas).to_be_visible()
    apart = np.abs(pixels(picture(SCENE)) - pixels(picture(edited.download()))).max(axis=2)
    words = edited.t("viewer.differs", percent=round(100 * float((apart > 0).mean())), most=int(apart.max()))
    expect(edited.viewer.get_by_role("status")).to_have_text(words)
    shown = canvas.evaluate("each => [...each.getContext('2d').getImageData(0, 0, 64, 64).data]")
    shades = np.asarray(shown).reshape(64, 64, 4)[..., :3].max(axis=2)
    assert np.array_equal(shades, apart)
    edited.viewer.get_by_label(edited.t("viewer.gain")).select_option("4")
    brighter = np.minimum(255, 4 * apart)
    expect(edited.viewer.get_by_role("status")).to_have_text(words)
    edited.page.wait_for_function(
        """want => {
          const { data } = document.querySelector(".difference canvas").getContext("2d").getImageData(0, 0, 64, 64);
          return want.every((shade, at) => Math.max(...data.slice(4 * at, 4 * at + 3)) === shade);
        }""",
        arg=brighter.ravel().tolist(),
    )


def test_side_by_side(edited: Ui) -> None:
    edited.button("viewer.side", edited.viewer).click()
    figures = edited.viewer.get_by_role("figure")
    expect(figures).to_have_count(2)
    expect(figures.first).to_contain_text("scene.png")
    expect(figures.last).to_contain_text(edited.t("result.ai", model="pixrt-shapes"))


def test_any_two_pictures_are_compared(edited: Ui) -> None:
    edited.edit(BLUE, seed=2)
    edited.viewer.get_by_role("combobox", name="A").select_option(f"2. {BLUE}")
    figure = edited.viewer.get_by_role("figure")
    expect(figure).to_contain_text(f"A 2. {BLUE}")
    expect(figure).to_contain_text(f"B 3. {BLUE}")
    edited.button("viewer.compareEnd", edited.viewer).click()
    expect(figure).to_contain_text("A 1. scene.png")
    # The same by the history's buttons.
    edited.rows.first.click()
    edited.button("tree.b").click()
    edited.rows.nth(1).click()
    edited.button("tree.a").click()
    expect(figure).to_contain_text(f"A 2. {BLUE}")
    expect(figure).to_contain_text("B 1. scene.png")


def test_the_history_is_a_tree_with_undo_and_redo(edited: Ui) -> None:
    """From the second of two children undo goes to their parent, and redo to the child that was looked at last."""
    edited.edit("remove the circle", seed=2)
    expect(edited.rows).to_have_count(3)
    levels = [row.get_attribute("aria-level") for row in edited.rows.all()]
    assert levels == ["1", "2", "2"]
    edited.rows.nth(1).click()
    expect(edited.row).to_contain_text(BLUE)
    edited.button("result.undo").click()
    expect(edited.row).to_contain_text("scene.png")
    edited.button("result.redo").click()
    expect(edited.row).to_contain_text(BLUE)
    edited.page.keyboard.press("Control+z")
    expect(edited.row).to_contain_text("scene.png")
    edited.page.keyboard.press("Control+Shift+Z")
    expect(edited.row).to_contain_text(BLUE)
    expect(edited.button("result.redo")).to_be_disabled()
    edited.page.reload()
    expect(edited.rows).to_have_count(3)


def test_the_history_is_walked_by_keys(edited: Ui) -> None:
    tree = edited.page.get_by_role("tree", name=edited.t("tree.title"))
    edited.row.focus()
    tree.press("Home")
    expect(edited.rows.first).to_be_focused()
    tree.press("ArrowDown")
    expect(edited.rows.nth(1)).to_be_focused()
    tree.press("ArrowLeft")
    expect(edited.rows.first).to_be_focused()
    tree.press("Enter")
    expect(edited.row).to_contain_text("scene.png")


def test_a_picture_is_deleted_after_asking_once(edited: Ui) -> None:
    edited.button("tree.remove").click()
    expect(edited.rows).to_have_count(2)
    edited.button("tree.removeSure").click()
    expect(edited.rows).to_have_count(1)
    expect(edited.row).to_contain_text("scene.png")


def test_parameters_of_a_result_are_told_and_taken_over(edited: Ui) -> None:
    edited.edit("remove the circle", steps=3, seed=9, guidance_scale=3)
    edited.rows.nth(1).click()
    edited.result.get_by_text(edited.t("result.parameters"), exact=True).click()
    told = edited.result.locator("dl")
    for name, value in {"steps": "2", "seed": "1", "guidance_scale": "2", "model": "pixrt-shapes"}.items():
        expect(told.locator(f"dt:text-is('{name}') + dd")).to_have_text(value)
    edited.button("result.reuse").click()
    expect(edited.instruction).to_have_value(BLUE)
    expect(edited.control("steps")).to_have_value("2")
    expect(edited.control("seed")).to_have_value("1")
    expect(edited.control("guidance_scale")).to_have_value("2")
