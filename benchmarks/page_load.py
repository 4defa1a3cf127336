"""How long the web page takes to be there, and how much of it is sent: a first visit, a second one, and 60 results.

    python benchmarks/page_load.py [--runs 7]

Starts `pixrt serve` with a backend that computes nothing, and opens its page in headless Chromium. A first visit has a
browser profile of its own: nothing is kept. Times are milliseconds from the navigation until the options, which the
page asks the server for, are on the screen; their median, and the most. Sizes are bytes of bodies as they were sent.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browsing import ARGUMENTS, Served, Ui, chromium, served  # noqa: E402

SCENE = ROOT / "examples" / "scene.png"
RESULTS = 60
# Noted by the page itself, before anything else of it runs.
NOTE = """
  new MutationObserver((_, observer) => {
    if (!document.querySelector("[name=steps]")) return;
    observer.disconnect();
    requestAnimationFrame(() => (window.there = performance.now()));
  }).observe(document, { childList: true, subtree: true });
"""
SENT = """
  () => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, { encodedBodySize, transferSize }) => sum + (transferSize ? encodedBodySize : 0), 0)
"""


def main(runs: Annotated[int, typer.Option(help="Visits of each kind.")] = 7) -> None:
    table = Table("visit", "median ms", "most ms", "first paint ms", "kB sent", "requests")
    with (
        tempfile.TemporaryDirectory() as work,
        served(Path(work), "--backend", "null") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        table.add_row("first", *told([visit(context_of(browser), server) for _ in range(runs)]))
        context = context_of(browser)
        visit(context, server)
        table.add_row("again", *told([visit(context, server) for _ in range(runs)]))
        fill(context, server, Path(work))
        table.add_row(f"again, {RESULTS} results", *told([visit(context, server) for _ in range(runs)]))
        step = walk(context, server, Path(work))
        browser.close()
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"from one of {RESULTS} results to the next, by a key: {step:.0f} ms until it is drawn")


def context_of(browser: Browser) -> BrowserContext:
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
    context.add_init_script(NOTE)
    return context


def visit(context: BrowserContext, server: Served) -> tuple[float, float, int, int]:
    """Milliseconds until it is there, and until anything is painted; bytes and requests."""
    page = context.new_page()
    page.goto(server.address)
    there: float = page.wait_for_function("() => window.there").json_value()
    painted: float = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
    sent: int = page.evaluate(SENT)
    requests: int = page.evaluate("performance.getEntriesByType('resource').length + 1")
    page.close()
    return there, painted, sent, requests


def told(visits: list[tuple[float, float, int, int]]) -> list[str]:
    there, painted, sent, requests = zip(*visits, strict=True)
    return [
        f"{statistics.median(there):.0f}",
        f"{max(there):.0f}",
        f"{statistics.median(painted):.0f}",
        f"{max(sent) / 1000:.0f}",
        str(max(requests)),
    ]


def fill(context: BrowserContext, server: Served, folder: Path) -> None:
    """A history of so many results, made by using the page."""
    page = context.new_page()
    page.goto(server.address)
    ui = Ui(page, server, folder)
    ui.control("steps").wait_for()
    ui.bring(SCENE)
    ui.compose.get_by_label(ui.t("run.count"), exact=True).select_option("4")
    for _ in range(RESULTS // 4):
        ui.edit("make the background blue", pictures=4, steps=1)
    page.close()


def walk(context: BrowserContext, server: Served, folder: Path) -> float:
    """Milliseconds between pressing a key in the history and its picture on the screen; the median."""
    page = context.new_page()
    page.goto(server.address)
    ui = Ui(page, server, folder)
    expect(ui.rows).to_have_count(RESULTS + 1)
    ui.row.focus()
    times = []
    for _ in range(20):
        page.keyboard.press("ArrowUp")
        begun = page.evaluate("performance.now()")
        page.keyboard.press("Enter")
        drawn = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
        times.append(page.evaluate(drawn) - begun)
    page.close()
    return statistics.median(times)


if __name__ == "__main__":
    typer.run(main)
