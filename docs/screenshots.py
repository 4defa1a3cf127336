"""Pictures of the page for these pages: made by a browser that uses it, over the built-in model `shapes`.

    python docs/screenshots.py [FOLDER]

Needs the extra `test`, and Chromium (see `chromium` in tests/support/browsing.py). Writes page-result.png,
page-mask.png, page-history.png and page-phone.png.
"""

import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browsing import ARGUMENTS, Served, Ui, chromium, served  # noqa: E402

SCENE = ROOT / "examples" / "scene.png"
WIDE = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", "reduced_motion": "reduce"}
PHONE = {**WIDE, "viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
TOP = "document.querySelectorAll('html, .compose, .compose *').forEach((each) => (each.scrollTop = 0))"
COLOURS = 128  # of a picture's palette: photographs of a page need few, and the files stay small


def main(folder: Path) -> None:
    """Make all of them."""
    expect.set_options(timeout=30_000)
    with tempfile.TemporaryDirectory() as work, served(Path(work)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        result(opened(browser, server, work, **WIDE), folder / "page-result.png")
        mask(opened(browser, server, work, **WIDE), folder / "page-mask.png")
        history(opened(browser, server, work, **WIDE), folder / "page-history.png")
        phone(opened(browser, server, work, **PHONE), folder / "page-phone.png")
        browser.close()


def opened(browser: Browser, server: Served, work: str, **how: object) -> Ui:
    """The page in a profile of its own, with the example picture."""
    page = browser.new_context(locale="en-US", **how).new_page()
    page.goto(server.address)
    ui = Ui(page, server, Path(work))
    ui.control("steps").wait_for()
    ui.bring(SCENE)
    return ui


def result(ui: Ui, file: Path) -> None:
    """An edit, under the divider."""
    ui.edit("make the background blue", seed=4)
    shot(ui, file)


def mask(ui: Ui, file: Path) -> None:
    """A mask that is being painted."""
    ui.button("mask.paint").click()
    canvas = ui.dialog.get_by_role("application")
    box = canvas.bounding_box()
    assert box is not None
    x, y, width, height = (box[name] for name in ("x", "y", "width", "height"))
    ui.dialog.get_by_role("radio", name=ui.t("mask.colour2")).check()
    ui.dialog.get_by_label(re.compile("^Size")).fill("12")
    ui.page.mouse.move(x + 0.2 * width, y + 0.2 * height)
    ui.page.mouse.down()
    for right, down in ((0.34, 0.22), (0.18, 0.28), (0.34, 0.34), (0.2, 0.36)):
        ui.page.mouse.move(x + right * width, y + down * height, steps=5)
    ui.page.mouse.up()
    shot(ui, file)


def history(ui: Ui, file: Path) -> None:
    """What was made of a picture, and of that; two of it side by side."""
    for words, seed in (("make the background blue", 4), ("make the circle bigger", 1)):
        ui.edit(words, seed=seed)
        ui.button("result.editAgain", ui.result).click()
    ui.rows.first.click()
    ui.button("result.use", ui.result).click()
    ui.edit("turn the circle into a star", seed=2)
    ui.edit("invert the colors", seed=3)
    ui.rows.nth(2).click()
    ui.button("viewer.side", ui.viewer).click()
    shot(ui, file)


def phone(ui: Ui, file: Path) -> None:
    """A result on a phone."""
    ui.edit("make the background blue", seed=4)
    shot(ui, file, "document.querySelector('.viewer').scrollIntoView({ block: 'start' }), scrollBy(0, -8)")


def shot(ui: Ui, file: Path, scroll: str = TOP) -> None:
    """The window, once its pictures are there, with few colours."""
    ui.page.mouse.move(0, 0)
    ui.page.evaluate(scroll)
    for image in ui.page.get_by_role("img").all():
        expect(image).to_have_js_property("complete", True)
    ui.page.screenshot(path=file, animations="disabled")
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
