"""What leaves the page and comes back: copies as code, parameters out of pictures, zips, a history that is kept."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from browsing import Open, Served, Ui, picture
from pixrt import Editor
from shapes import BLUE, SCENE, pixels

HOW: dict[str, Any] = {"steps": 2, "guidance_scale": 2.5, "seed": 4}


def same(one: Path, other: Path) -> bool:
    """Whether every pixel is."""
    return np.array_equal(pixels(picture(one)), pixels(picture(other)))


@pytest.mark.parametrize("kind", ["command", "python", "curl"])
def test_a_result_is_copied_as_code_that_repeats_it(ui: Ui, kind: str, tmp_path: Path) -> None:
    """What the page copies is run: every pixel is the same."""
    ui.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ui.bring(SCENE)
    ui.more()
    ui.set("negative_prompt", "it's a star")
    ui.edit('make the background "blue"', **HOW)
    made = ui.download().rename(tmp_path / "made.png")
    ui.result.get_by_text(ui.t("result.parameters"), exact=True).click()
    ui.button(f"result.copy.{kind}").click()
    expect(ui.result.get_by_role("status")).to_have_text(ui.t("result.copied"))
    code = ui.page.evaluate("navigator.clipboard.readText()")
    assert ui.result.locator("pre").inner_text().strip() == code.strip()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "scene.png").write_bytes(SCENE.read_bytes())
    command = [sys.executable, "-c", code] if kind == "python" else ["sh", "-euc", code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=True, capture_output=True, timeout=120)
    (repeated,) = set(folder.iterdir()) - {folder / "scene.png"}
    assert same(repeated, made)


def test_a_picture_of_pixrts_brings_its_parameters(ui: Ui, opening: Open, server: Served, tmp_path: Path) -> None:
    """On another browser: the picture is dropped, its parameters are taken over, and the edit is repeated."""
    ui.bring(SCENE)
    ui.edit(BLUE, **HOW)
    made = ui.download()
    other = opening(server)
    other.drop(made)
    offer = other.compose.get_by_role("status").filter(has_text=other.t("restore.title"))
    expect(offer).to_contain_text(BLUE)
    other.button("restore.do", offer).click()
    expect(other.compose).to_contain_text(other.t("restore.done"))
    expect(other.instruction).to_have_value(BLUE)
    for name, value in HOW.items():
        expect(other.control(name)).to_have_value(f"{value:g}")
    other.bring(SCENE)
    other.run()
    other.has(3)
    assert same(other.download(), made)


def test_a_picture_of_automatic1111s_brings_its_parameters(ui: Ui, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text(
        "parameters",
        f"{BLUE}\nNegative prompt: a star\n"
        "Steps: 7, Sampler: Euler a, CFG scale: 3.5, Image CFG scale: 1.3, Seed: 11, Size: 64x64, Model: ip2p",
    )
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a1111.png", pnginfo=info)
    ui.drop(tmp_path / "a1111.png")
    ui.button("restore.do").click()
    ui.more()
    expect(ui.instruction).to_have_value(BLUE)
    values = {
        "steps": "7",
        "guidance_scale": "3.5",
        "image_guidance_scale": "1.3",
        "seed": "11",
        "negative_prompt": "a star",
    }
    for name, value in values.items():
        expect(ui.control(name)).to_have_value(value)
    expect(ui.control("negative_prompt")).to_have_value("a star")
    expect(ui.control("scheduler")).to_have_value("euler_ancestral")


def scenes(folder: Path, *colours: str) -> list[Path]:
    """Pictures that can be told apart."""
    paths = [folder / f"{colour}.png" for colour in colours]
    for colour, path in zip(colours, paths, strict=True):
        Image.new("RGB", (64, 64), colour).save(path)
    return paths


def test_several_pictures_with_one_instruction(ui: Ui, editor: Editor, tmp_path: Path) -> None:
    """In the order that the user gives them; the results side by side; a zip of all, named as the pictures were."""
    files = scenes(tmp_path, "red", "green", "yellow")
    ui.bring(*files)
    ui.button("source.earlier", name="yellow.png").click()
    ui.instruction.fill(BLUE)
    for name, value in HOW.items():
        ui.set(name, value)
    ui.run()
    ui.has(6)
    several = ui.region("several.title")
    expect(several.get_by_role("status")).to_have_text(ui.t("several.done", done=3, of=3))
    items = several.get_by_role("listitem")
    for item, name in zip(items.all(), ("red", "yellow", "green"), strict=True):
        expect(item).to_contain_text(f"{name}.png")
    zipped = ui.saved(ui.button("several.zip", several))
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == ["red.png", "yellow.png", "green.png"]
        archive.extractall(tmp_path / "made")
    for file in files:
        made = pixels(picture(tmp_path / "made" / file.name))
        assert np.array_equal(made, pixels(editor.edit(file, BLUE, **HOW).image))
    items.nth(1).get_by_role("button").click()
    expect(ui.viewer).to_contain_text("yellow.png")
    expect(ui.instruction).to_have_value(BLUE)  # it is kept for the next pictures


def test_clearing_leaves_nothing(ui: Ui) -> None:
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    ui.button("header.settings").click()
    ui.button("header.clear", ui.dialog).click()
    ui.button("clear.do", ui.dialog).click()
    expect(ui.rows).to_have_count(0)
    expect(ui.instruction).to_have_value("")
    expect(ui.control("steps")).to_have_value("20")
    left = ui.page.evaluate(
        """async () => {
          const found = [];
          for (const { name } of await indexedDB.databases()) {
            const open = indexedDB.open(name);
            const base = await new Promise((resolve) => (open.onsuccess = () => resolve(open.result)));
            for (const store of base.objectStoreNames) {
              if (store === "settings") continue;
              const count = base.transaction(store).objectStore(store).count();
              await new Promise((resolve) => (count.onsuccess = resolve));
              if (count.result) found.push(store);
            }
            base.close();
          }
          return found;
        }"""
    )
    assert left == []
    expect(ui.page.get_by_text(ui.t("app.empty"))).to_be_visible()


def test_a_long_history_is_kept_and_shown(ui: Ui, tmp_path: Path) -> None:
    """60 pictures; thumbnails are read as they come near the screen."""
    paths = [tmp_path / f"{number}.png" for number in range(60)]
    for number, path in enumerate(paths):
        Image.new("RGB", (64, 64), (4 * number, 90, 200 - 3 * number)).save(path)
    ui.bring(*paths)
    expect(ui.rows).to_have_count(60, timeout=30_000)
    ui.page.reload()
    expect(ui.rows).to_have_count(60)
    seen = ui.rows.get_by_role("presentation", include_hidden=True).or_(ui.rows.locator("img"))
    expect(seen.first).to_be_attached()
    assert seen.count() < 60
    ui.rows.nth(59).scroll_into_view_if_needed()
    expect(ui.rows.nth(59).locator("img")).to_be_attached()
