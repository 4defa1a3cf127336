"""What the server offers: its tasks, its model and what that says of itself, LoRAs; variants, and grids of values."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import loras
from browsing import Open, Served, Ui, picture, served
from pixrt import Editor, read_parameters
from pixrt.bundles.store import open_bundle
from shapes import BLUE, SCENE, pixels


def test_a_picture_is_made_of_text_alone(ui: Ui, editor: Editor) -> None:
    ui.choose_task("generate")
    expect(ui.button("source.choose", ui.compose)).to_have_count(0)
    ui.instruction.fill("a red circle")
    ui.set("steps", 2)
    ui.set("seed", 3)
    ui.run("generate")
    ui.has(1)
    expected = editor.generate("a red circle", steps=2, seed=3).image
    assert np.array_equal(pixels(picture(ui.download())), pixels(expected))


def test_a_picture_takes_the_style_of_another(ui: Ui, editor: Editor) -> None:
    green = SCENE.parent / "scene-green.png"
    ui.choose_task("style")
    ui.bring(SCENE)
    ui.set("steps", 2)
    ui.set("seed", 3)
    ui.run("style")
    expect(ui.compose).to_contain_text(ui.t("check.style"))
    ui.give(ui.button("source.style.choose"), green)
    ui.run("style")
    ui.has(2)
    expected = editor.style(SCENE, green, steps=2, seed=3).image
    assert np.array_equal(pixels(picture(ui.download())), pixels(expected))


def test_a_picture_is_made_of_another_and_text(opening: Open, text_server: Served) -> None:
    """With a text-to-image model; only its tasks are there."""
    ui = opening(text_server)
    names = ui.compose.get_by_role("group", name=ui.t("task.label")).get_by_role("radio")
    expect(names).to_have_count(4)
    expect(ui.compose.get_by_role("radio", name=ui.t("task.edit"), exact=True)).to_have_count(0)
    ui.choose_task("img2img")
    ui.bring(SCENE)
    ui.instruction.fill("a red circle")
    ui.set("steps", 4)
    ui.set("strength", 0.5)
    ui.run("img2img")
    ui.has(2)
    assert read_parameters(ui.download()).items() >= {"task": "img2img", "strength": 0.5, "steps": 4}.items()


def test_the_model_is_named_and_its_notice_shown(ui: Ui) -> None:
    manifest = open_bundle("shapes").manifest
    expect(ui.page.get_by_text(manifest.notice).first).to_be_visible()
    ui.page.get_by_role("button", name=f"{ui.t('header.about')}: {manifest.name}").click()
    expect(ui.dialog).to_contain_text(manifest.notice)
    expect(ui.dialog).to_contain_text(manifest.source.sha256)
    ui.page.keyboard.press("Escape")
    expect(ui.dialog).to_have_count(0)
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    ui.result.get_by_text(ui.t("result.parameters"), exact=True).click()
    expect(ui.result).to_contain_text(manifest.notice)


@pytest.fixture(scope="module")
def lora_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The model `shapes`, with a folder of a LoRA."""
    folder = tmp_path_factory.mktemp("loras")
    loras.write(folder / "ink.safetensors", loras.lora(loras.ATTENTION, size=0.5))
    with served(tmp_path_factory.mktemp("server"), "--lora-folder", str(folder)) as each:
        yield each


def test_a_lora_is_chosen_of_those_that_the_server_offers(opening: Open, lora_server: Served, editor: Editor) -> None:
    ui = opening(lora_server)
    ui.bring(SCENE)
    ui.more()
    ui.compose.get_by_role("checkbox", name="ink").check()
    ui.compose.get_by_label(ui.t("lora.scale", name="ink")).fill("0.7")
    ui.edit(BLUE, steps=2, seed=4)
    folder = Path(lora_server.arguments[1])
    with Editor("shapes", backend="ort-cpu", loras=[(folder / "ink.safetensors", 0.7)]) as opened:
        expected = opened.edit(SCENE, BLUE, steps=2, seed=4).image
    made = pixels(picture(ui.download()))
    assert np.array_equal(made, pixels(expected))
    assert not np.array_equal(made, pixels(editor.edit(SCENE, BLUE, steps=2, seed=4).image))


def test_four_variants_at_once(ui: Ui, editor: Editor) -> None:
    """Before, or of a result; each has a seed of its own, and they are shown beside one another."""
    ui.bring(SCENE)
    ui.compose.get_by_label(ui.t("run.count"), exact=True).select_option("4")
    ui.edit(BLUE, pictures=4, steps=1, seed=7)
    several = ui.region("several.title")
    expect(several.get_by_role("listitem")).to_have_count(4)
    for number, item in enumerate(several.get_by_role("listitem").all()):
        expect(item).to_contain_text(ui.t("several.seed", seed=7 + number))
    several.get_by_role("listitem").nth(2).get_by_role("button").click()
    assert np.array_equal(pixels(picture(ui.download())), pixels(editor.edit(SCENE, BLUE, steps=1, seed=9).image))
    ui.button("result.variants").click()
    ui.has(9)
    expect(several.get_by_role("listitem")).to_have_count(4)


def test_a_grid_of_two_options(ui: Ui, editor: Editor, tmp_path: Path) -> None:
    """One seed in all cells; each opens its picture; the table is a picture, the pictures are a zip."""
    ui.bring(SCENE)
    ui.instruction.fill(BLUE)
    ui.set("seed", 5)
    ui.button("run.grid").click()
    for title, option, values in (("sweep.rows", "steps", "1, 2"), ("sweep.columns", "guidance_scale", "1, 2, 3")):
        axis = ui.dialog.get_by_role("group", name=ui.t(title), exact=True)
        axis.get_by_label(ui.t("sweep.option")).select_option(ui.t(f"option.{option}"))
        axis.get_by_label(ui.t("sweep.list")).fill(values)
    ui.button("sweep.run", ui.dialog, n=6).click()
    ui.has(7)
    table = ui.page.get_by_role("table")
    cells = table.get_by_role("button")
    expect(cells).to_have_count(6)
    expect(table.get_by_role("columnheader", name="3", exact=True)).to_be_visible()
    expect(table.get_by_role("rowheader", name="2", exact=True)).to_be_visible()
    cells.nth(5).click()
    expected = editor.edit(SCENE, BLUE, steps=2, guidance_scale=3.0, seed=5).image
    assert np.array_equal(pixels(picture(ui.download())), pixels(expected))
    assert picture(ui.saved(ui.button("sweep.sheet"))).width > 3 * 64
    with zipfile.ZipFile(ui.saved(ui.region("sweep.table").get_by_role("button", name=ui.t("several.zip")))) as archive:
        assert len(archive.namelist()) == 6
        assert "steps-2_guidance_scale-3.png" in archive.namelist()
    ui.page.reload()
    expect(table.get_by_role("button")).to_have_count(6)
    ui.button("sweep.close").click()
    expect(table).to_have_count(0)
    expect(ui.rows).to_have_count(7)


def test_a_grid_that_cannot_be_is_refused_in_words(ui: Ui) -> None:
    ui.bring(SCENE)
    ui.instruction.fill(BLUE)
    ui.button("run.grid").click()
    axis = ui.dialog.get_by_role("group", name=ui.t("sweep.rows"), exact=True)
    axis.get_by_label(ui.t("sweep.list")).fill("1, two")
    ui.dialog.get_by_role("button", name=re.compile("^Make")).click()
    expect(ui.dialog.get_by_role("status")).to_contain_text(ui.like("sweep.noNumbers"))
    axis.get_by_label(ui.t("sweep.list")).fill(",".join(map(str, range(1, 31))))
    ui.dialog.get_by_role("button", name=re.compile("^Make")).click()
    expect(ui.dialog.get_by_role("status")).to_contain_text(ui.like("sweep.tooMany"))


def test_sizes_of_new_pictures(ui: Ui) -> None:
    ui.choose_task("generate")
    ui.instruction.fill("a red circle")
    ui.more()
    ui.set("width", 96)
    ui.set("height", 48)
    ui.set("steps", 1)
    ui.run("generate")
    ui.has(1)
    with Image.open(ui.download()) as made:
        assert made.size == (96, 48)
