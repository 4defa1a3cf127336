"""For everybody, everywhere: by keys alone, for screen readers, on a phone and on a wall, in German, offline."""

import io
import re
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, expect

from browsing import Open, Served, Ui, Watch, words
from shapes import BLUE, SCENE

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
ROOM = 200_000  # bytes that the first visit may take


def serious(ui: Ui) -> list[str]:
    """What axe-core finds in the page as it is now, serious or worse."""
    found = Axe().run(ui.page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {', '.join(str(node['target']) for node in each['nodes'][:3])}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("how", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_axe_finds_nothing_serious_in_any_view(opening: Open, server: Served, how: dict[str, Any]) -> None:
    ui = opening(server, **how)
    seen = {"empty": serious(ui)}
    ui.more()
    ui.run()
    seen["faults"] = serious(ui)
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    seen["result"] = serious(ui)
    ui.result.get_by_text(ui.t("result.parameters"), exact=True).click()
    for view in ("side", "difference"):
        ui.button(f"viewer.{view}", ui.viewer).click()
        seen[view] = serious(ui)
    for name in ("mask.paint", "run.grid", "header.settings"):
        ui.button(name).click()
        expect(ui.dialog).to_be_visible()
        seen[name] = serious(ui)
        ui.page.keyboard.press("Escape")
        expect(ui.dialog).to_have_count(0)
    ui.button("result.variants").click()
    ui.has(6)
    seen["several"] = serious(ui)
    assert {name: found for name, found in seen.items() if found} == {}


def tab_to(ui: Ui, wanted: Locator, most: int = 80, key: str = "Tab") -> None:
    """Press Tab until something has the focus."""
    for _ in range(most):
        if wanted.evaluate("each => each === document.activeElement"):
            return
        ui.page.keyboard.press(key)
    raise AssertionError(f"{wanted} is not reached by the keyboard")


def test_an_edit_by_keys_alone(ui: Ui) -> None:
    """From the top of the page to a download, without a mouse."""
    keys = ui.page.keyboard
    tab_to(ui, ui.button("source.choose", ui.compose))
    with ui.page.expect_file_chooser() as chooser:
        keys.press("Enter")
    chooser.value.set_files(SCENE)
    expect(ui.rows).to_have_count(1)
    tab_to(ui, ui.instruction)
    keys.type(BLUE)
    tab_to(ui, ui.control("steps"))
    keys.type("2")
    keys.press("Control+Enter")
    ui.has(2)
    tab_to(ui, ui.viewer.get_by_role("slider", name=ui.t("viewer.divider")))
    keys.press("ArrowLeft")
    tab_to(ui, ui.button("result.download", ui.result))
    with ui.page.expect_download():
        keys.press("Enter")
    tab_to(ui, ui.row)
    keys.press("ArrowUp")
    keys.press("Enter")
    expect(ui.row).to_contain_text("scene.png")


def test_every_action_is_reached_by_tab_and_shows_that_it_has_the_focus(ui: Ui) -> None:
    """Once through the page: each button and field comes once, and has an outline."""
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    ui.page.reload()
    expect(ui.rows).to_have_count(2)
    reached = []
    for _ in range(120):
        ui.page.keyboard.press("Tab")
        found = ui.page.evaluate(
            """() => {
              const each = document.activeElement;
              if (each === document.body) return null;
              const style = getComputedStyle(each);
              const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
              return [each.getAttribute("aria-label") ?? each.labels?.[0]?.innerText ?? each.innerText, outline];
            }"""
        )
        if found is None:
            break
        reached.append(found)
    names = " | ".join(str(name) for name, _ in reached)
    for key in ("source.choose", "source.photograph", "mask.paint", "seed.lock", "seed.dice", "run.count", "run.grid"):
        assert ui.t(key) in names, key
    for key in ("viewer.difference", "result.editAgain", "result.download", "mask.back", "tree.remove"):
        assert ui.t(key) in names, key
    assert [name for name, outlined in reached if not outlined and ui.t("viewer.divider") != name] == []


def test_a_window_keeps_and_gives_back_the_focus(ui: Ui) -> None:
    opener = ui.button("header.settings")
    opener.focus()
    ui.page.keyboard.press("Enter")
    expect(ui.dialog).to_be_visible()
    for _ in range(8):
        ui.page.keyboard.press("Tab")  # past its end lies the browser's own bar
        assert ui.page.evaluate("!document.activeElement.closest('main, header.top > *:not(dialog)')")
    ui.page.keyboard.press("Escape")
    expect(opener).to_be_focused()


def overflow(ui: Ui) -> int:
    """Pixels by which the page is wider than the window."""
    width: int = ui.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")
    return width


def test_on_a_phone(opening: Open, server: Served) -> None:
    """By fingers: nothing is cut off, what is tapped is large enough, and an edit is made."""
    ui = opening(server, **PHONE)
    ui.give(ui.button("source.choose", ui.compose), SCENE)
    ui.instruction.fill(BLUE)
    ui.set("steps", 1)
    ui.button("run.edit", ui.compose).tap()
    ui.has(2)
    ui.compose.get_by_text(ui.t("controls.more"), exact=True).tap()
    assert overflow(ui) <= 0
    small = ui.page.evaluate(
        """() => [...document.querySelectorAll("button, select, textarea, summary, [role=treeitem], input")]
          .filter((each) => each.checkVisibility() && !each.closest(".visually-hidden") && each.tabIndex >= 0)
          .filter((each) => !each.matches(".tasks input, [type=file], [type=checkbox], [type=radio]"))
          .map((each) => [each.getAttribute("aria-label") ?? each.innerText, each.getBoundingClientRect()])
          .filter(([, box]) => box.width && (box.height < 43.5 || box.width < 43.5))
          .map(([name, box]) => `${name}: ${Math.round(box.width)} x ${Math.round(box.height)}`)"""
    )
    assert small == []
    ui.button("mask.paint").tap()
    expect(ui.dialog).to_be_visible()
    assert overflow(ui) <= 0


@pytest.mark.parametrize("width", [320, 360, 719, 720, 1199, 1200, 1920, 3840])
def test_nothing_is_cut_off_at_any_width(ui: Ui, width: int) -> None:
    ui.page.set_viewport_size({"width": width, "height": 900})
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    ui.more()
    assert overflow(ui) <= 0


def test_offline(opening: Open, server: Served, watch: Watch) -> None:
    """Without any network the page opens, with its history, and goes on when there is one."""
    watch.expect("ERR_INTERNET_DISCONNECTED")
    ui = opening(server)
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    ui.page.evaluate("navigator.serviceWorker.ready")
    ui.page.wait_for_function(
        """async () => {
          const caches_ = await Promise.all((await caches.keys()).map((name) => caches.open(name)));
          const kept = (await Promise.all(caches_.map((each) => each.keys()))).flat().map(({ url }) => url);
          const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
          return loaded.filter((name) => name.includes("/page/")).every((name) => kept.includes(name));
        }"""
    )
    ui.page.context.set_offline(True)
    ui.page.reload()
    expect(ui.rows).to_have_count(2)
    expect(
        ui.page.get_by_text(ui.like("problem.banner")).or_(ui.page.get_by_text(ui.t("problem.trying")))
    ).to_be_visible()
    expect(ui.viewer.get_by_role("img").first).to_be_visible()
    ui.download()
    ui.page.context.set_offline(False)
    expect(ui.control("steps")).to_be_visible()  # the server has said what it offers
    ui.edit(BLUE)


def test_the_first_visit_is_small_and_asks_nobody_else(ui: Ui) -> None:
    """Of the transfer, in bytes; `watch` fails the test if any request goes elsewhere."""
    sizes = ui.page.evaluate(
        """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
          .map(({ name, encodedBodySize }) => [name, encodedBodySize])"""
    )
    assert len(sizes) > 10
    assert sum(size for _, size in sizes) < ROOM, sorted(sizes, key=lambda each: -each[1])[:10]


def test_in_german(opening: Open, server: Served) -> None:
    """As the browser prefers it; another language is chosen, and stays."""
    ui = opening(server, locale="de-DE")
    ui.language = "de"
    expect(ui.page.locator("html")).to_have_attribute("lang", "de")
    expect(ui.compose).to_be_visible()
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    expect(ui.viewer).to_contain_text(ui.t("result.ai", model="pixrt-shapes"))
    ui.set("steps", 0)
    expect(ui.control("steps")).to_have_attribute("aria-invalid", "true")
    english = set(words("en").values())
    shown = [
        line
        for line in ui.page.locator("body").inner_text().splitlines()
        if line in english - set(words("de").values())
    ]
    assert shown == []
    ui.button("header.settings").click()
    ui.dialog.get_by_label(ui.t("header.language")).select_option("en")
    ui.language = "en"
    expect(ui.dialog).to_contain_text(ui.t("header.settings"))
    ui.page.reload()
    expect(ui.page.locator("html")).to_have_attribute("lang", "en")
    expect(ui.compose).to_be_visible()


def test_both_languages_say_everything() -> None:
    german, english = words("de"), words("en")
    assert german.keys() == english.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", german[key])) == set(re.findall(r"\{\w+\}", text)), key


def lightness(ui: Ui) -> float:
    """Of the page's background as it is drawn, in a corner, 0 to 1."""
    with Image.open(io.BytesIO(ui.page.screenshot())) as shot:
        return float(np.asarray(shot.convert("L"))[-4:, -4:].mean()) / 255


def test_dark_and_light(opening: Open, server: Served) -> None:
    """As the system has it, or as it is chosen, which stays."""
    ui = opening(server, color_scheme="dark")
    assert lightness(ui) < 0.3
    ui.page.emulate_media(color_scheme="light")
    assert lightness(ui) > 0.8
    ui.button("header.settings").click()
    ui.dialog.get_by_label(ui.t("header.theme")).select_option(ui.t("theme.dark"))
    expect(ui.page.locator("html")).to_have_css("color-scheme", "dark")
    assert lightness(ui) < 0.3
    ui.page.reload()
    expect(ui.compose).to_be_visible()
    assert lightness(ui) < 0.3


def test_nothing_moves_for_those_who_do_not_want_that(opening: Open, server: Served) -> None:
    ui = opening(server, reduced_motion="reduce")
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)
    moving = ui.page.evaluate(
        """() => [...document.querySelectorAll("*")].flatMap((each) => {
          const { transitionDuration, animationDuration, animationName } = getComputedStyle(each);
          const seconds = (text) => Math.max(...text.split(",").map(parseFloat));
          const runs = animationName !== "none" && seconds(animationDuration) > 0.01;
          return runs || seconds(transitionDuration) > 0.01 ? [each.className] : [];
        })"""
    )
    assert moving == []


def test_landmarks_headings_and_what_is_spoken(ui: Ui) -> None:
    expect(ui.page.get_by_role("banner")).to_have_count(1)
    expect(ui.page.get_by_role("main")).to_have_count(1)
    expect(ui.page.get_by_role("heading", level=1)).to_have_text("pixrt")
    expect(ui.page).to_have_title(ui.t("app.title"))
    ui.page.keyboard.press("Tab")
    expect(ui.page.get_by_role("link", name=ui.t("app.skip"))).to_be_focused()
    ui.page.keyboard.press("Enter")
    expect(ui.page.locator("#picture")).to_be_focused()
    ui.bring(SCENE)
    ui.edit(BLUE, steps=2)
    expect(ui.page.locator("[aria-live=polite]").filter(has_text=ui.t("progress.done"))).to_have_count(1)
