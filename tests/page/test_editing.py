"""From a picture to a result: how one brings it, says what should change, and how."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from browsing import Ui, Watch, picture
from pixrt import Editor, read_parameters
from pixrt.bundles.store import open_bundle
from pixrt.options.ladder import preset_values
from shapes import BLUE, SCENE, pixels


def test_from_a_picture_to_a_download(ui: Ui, editor: Editor) -> None:
    """The whole way; the file is the picture that the Python API makes, and says how it was made."""
    ui.bring(SCENE)
    ui.edit(BLUE, steps=3, guidance_scale=2.5, image_guidance_scale=1.4, seed=4)
    options = {"steps": 3, "guidance_scale": 2.5, "image_guidance_scale": 1.4, "seed": 4}
    expected = editor.edit(SCENE, BLUE, **options)
    file = ui.download()
    assert np.array_equal(pixels(picture(file)), pixels(expected.image))
    assert read_parameters(file).items() >= {"task": "edit", "instruction": BLUE, **options}.items()
    expect(ui.viewer).to_contain_text(ui.t("result.ai", model="pixrt-shapes"))


def test_an_instruction_that_was_not_taught_gets_a_note(ui: Ui) -> None:
    ui.bring(SCENE)
    ui.edit("add a castle", steps=1)
    expect(ui.result.get_by_role("note")).to_contain_text("was not taught 'add a castle'")
    ui.edit(BLUE, steps=1)
    expect(ui.result.get_by_role("note")).to_have_count(0)


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(ui: Ui, how: str) -> None:
    getattr(ui, how)(SCENE)
    expect(ui.row).to_contain_text("scene.png")
    expect(ui.compose.get_by_role("img", name="scene.png")).to_be_visible()
    ui.edit(BLUE, steps=1)


def test_a_picture_is_photographed(ui: Ui) -> None:
    """A phone opens its camera for such an input; elsewhere files are asked for."""
    camera = ui.compose.get_by_label(ui.t("source.photograph"), exact=True).last
    expect(camera).to_have_attribute("capture", "environment")
    expect(camera).to_have_attribute("accept", "image/*")
    ui.give(ui.button("source.photograph"), SCENE)
    expect(ui.row).to_contain_text("scene.png")


def test_a_photograph_is_shown_and_edited_upright(ui: Ui, tmp_path: Path) -> None:
    """Cameras turn pictures by a note in them; and its size need not be the model's."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (60, 36), "red").save(tmp_path / "turned.jpg", exif=exif)
    ui.bring(tmp_path / "turned.jpg")
    expect(ui.compose).to_contain_text("36 × 60")
    ui.edit(BLUE, steps=1)
    assert picture(ui.download()).size == (36, 60)


def test_what_is_no_picture_is_said(ui: Ui, tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no picture")
    ui.give(ui.button("source.choose", ui.compose), tmp_path / "note.png")
    expect(ui.page.get_by_role("alert")).to_contain_text("note.png")
    expect(ui.page.get_by_role("alert")).to_contain_text("PNG, JPEG")
    ui.button("action.dismiss").click()
    expect(ui.page.get_by_text("note.png")).to_have_count(0)


def test_another_picture_takes_the_place_of_the_first(ui: Ui, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "other.png")
    ui.bring(SCENE)
    ui.bring(tmp_path / "other.png")
    expect(ui.compose.get_by_role("img")).to_have_count(1)
    ui.button("source.remove", name="other.png").click()
    expect(ui.compose.get_by_role("img")).to_have_count(0)
    expect(ui.rows).to_have_count(2)


def test_examples_of_the_model_are_chips(ui: Ui) -> None:
    examples = open_bundle("shapes").manifest.examples
    chips = ui.compose.get_by_role("list", name=ui.t("prompt.examples")).get_by_role("button")
    expect(chips).to_have_text(list(examples))
    chips.nth(1).click()
    expect(ui.instruction).to_have_value(examples[1])


def test_every_option_of_the_schema_has_a_control(ui: Ui) -> None:
    """None is written twice: what the server's schema says is what is there, and its usual name stands beside it."""
    schema = ui.page.request.get(f"{ui.server.address}/v1/schema").json()
    ui.more()
    for task in schema["tasks"]:
        ui.choose_task(task)
        for name, option in schema["tasks"][task]["options"]["properties"].items():
            if option["x-group"] == "Mask" and task != "edit":
                continue
            control = ui.compose.locator(f"[name={name}]").first
            expect(control).to_be_visible()
            label = ui.compose.locator("label").filter(has_text=option["title"]).first
            expect(label).to_be_visible()


def test_a_change_of_every_kind_of_control_reaches_the_server(ui: Ui) -> None:
    """Number, slider, choice, window and text; all of them are in the result's parameters."""
    ui.bring(SCENE)
    ui.more()
    ui.control("scheduler").select_option("euler")
    ui.set("negative_prompt", "a star")
    window = ui.compose.locator("[name=guidance_interval]")
    window.fill("0.1")
    ui.edit(BLUE, steps=4, seed=7)
    said = read_parameters(ui.download())
    assert said.items() >= {"scheduler": "euler", "negative_prompt": "a star", "steps": 4, "seed": 7}.items()
    assert tuple(said["guidance_interval"]) == (0.1, 1.0)


def test_a_changed_control_goes_back_to_its_default(ui: Ui) -> None:
    ui.set("steps", 7)
    ui.compose.get_by_role("button", name=f"{ui.t('option.steps')}: {ui.t('action.reset', value=20)}").click()
    expect(ui.control("steps")).to_have_value("20")


def test_a_preset_sets_what_is_not_set(ui: Ui, watch: Watch) -> None:
    """And what the server says of a field stands beside it: this model has nothing for the preset lcm."""
    watch.expect("status of 400")
    ui.bring(SCENE)
    ui.more()
    ui.control("preset").select_option("fast")
    ui.edit(BLUE)
    fast = preset_values("fast", open_bundle("shapes", verify=False).manifest.defaults, {"branch_interval"})
    said = read_parameters(ui.download())
    assert {name: said[name] for name in fast} == fast
    ui.control("preset").select_option("lcm")
    ui.run()
    expect(ui.control("preset")).to_have_attribute("aria-invalid", "true")
    expect(ui.compose).to_contain_text("has no LoRA")
    ui.control("preset").select_option("fast")
    expect(ui.compose).not_to_contain_text("has no LoRA")


def test_the_file_has_the_format_that_is_chosen(ui: Ui) -> None:
    ui.bring(SCENE)
    ui.more()
    ui.control("output_format").select_option("webp")
    ui.edit(BLUE, steps=1)
    file = ui.download()
    assert file.suffix == ".webp"
    assert file.read_bytes()[8:12] == b"WEBP"
    assert read_parameters(file)["instruction"] == BLUE


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [("steps", "0", "check.between"), ("steps", "2.5", "check.whole"), ("guidance_scale", "-1", "check.")],
)
def test_what_is_wrong_stands_at_its_field_before_anything_is_sent(ui: Ui, name: str, value: str, key: str) -> None:
    sent: list[str] = []
    ui.page.on("request", lambda request: sent.append(request.method))
    ui.bring(SCENE)
    ui.instruction.fill(BLUE)
    ui.set(name, value)
    control = ui.control(name)
    expect(control).to_have_attribute("aria-invalid", "true")
    ui.run()
    expect(ui.compose.get_by_role("alert")).to_contain_text(ui.t("run.faults"))
    expect(control).to_be_focused()
    described = control.get_attribute("aria-describedby")
    assert described is not None
    fault = ui.page.locator(f"#{described.split()[-1].replace(':', chr(92) + ':')}")
    expect(fault).to_be_visible()
    assert "POST" not in sent
    ui.set(name, "3")
    expect(control).not_to_have_attribute("aria-invalid", "true")


def test_what_is_missing_is_said_when_it_is_sent(ui: Ui) -> None:
    ui.run()
    expect(ui.compose).to_contain_text(ui.t("check.image"))
    expect(ui.compose).to_contain_text(ui.t("check.prompt"))
    ui.bring(SCENE)
    expect(ui.compose).not_to_contain_text(ui.t("check.image"))
    ui.instruction.fill(BLUE)
    expect(ui.compose).not_to_contain_text(ui.t("check.prompt"))


def test_the_seed_is_kept_rolled_and_counted(ui: Ui) -> None:
    """Each run has another seed, until the number is kept: that is the last result's."""
    seed = ui.control("seed")
    expect(seed).to_have_value("")
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    first = read_parameters(ui.download())["seed"]
    ui.edit(BLUE)
    second = read_parameters(ui.download())["seed"]
    assert first != second
    lock = ui.button("seed.lock")
    lock.click()
    expect(lock).to_have_attribute("aria-pressed", "true")
    expect(seed).to_have_value(str(second))
    ui.button("seed.next").click()
    expect(seed).to_have_value(str(second + 1))
    ui.edit(BLUE)
    assert read_parameters(ui.download())["seed"] == second + 1
    ui.button("seed.dice").click()
    expect(seed).not_to_have_value(str(second + 1))
    lock.click()
    expect(seed).to_have_value("")


def test_a_result_is_edited_again(ui: Ui, editor: Editor) -> None:
    ui.bring(SCENE)
    ui.edit(BLUE, steps=2, seed=1)
    ui.button("result.editAgain", ui.result).click()
    expect(ui.instruction).to_be_focused()
    ui.edit("remove the circle")
    first = editor.edit(SCENE, BLUE, steps=2, seed=1).image
    expected = editor.edit(first, "remove the circle", steps=2, seed=1).image
    assert np.array_equal(pixels(picture(ui.download())), pixels(expected))
    expect(ui.row).to_have_attribute("aria-level", "3")
