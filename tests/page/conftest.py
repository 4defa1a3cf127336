"""A browser, servers for it, and a page that is watched: what goes wrong in it fails its test.

Chromium is Debian's, or the one that PIXRT_CHROMIUM names; without one these tests are skipped, saying so.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browsing import ARGUMENTS, SLOW_STEPS, Open, Served, Ui, Watch, chromium, served
from text_bundle import text_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for a browser is of the suite that has one."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    """Headless Chromium. Ends with the package: while it lives, its thread has a running event loop."""
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium: install Debian's, or name one by PIXRT_CHROMIUM")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)  # a busy machine is no failure
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The model of drawn scenes."""
    with served(tmp_path_factory.mktemp("server")) as each:
        yield each


@pytest.fixture(scope="package")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model that computes nothing, a quarter of a second for each step, one picture at a time."""
    with served(tmp_path_factory.mktemp("slow"), *SLOW_STEPS, "--max-batch", "1") as each:
        yield each


@pytest.fixture(scope="package")
def text_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A text-to-image model that computes nothing."""
    folder = tmp_path_factory.mktemp("text")
    with served(folder, "--backend", "null", "--bundle", str(text_bundle(folder / "text"))) as each:
        yield each


@pytest.fixture
def watch() -> Iterator[Watch]:
    """What all pages of a test do wrong; a test says what it expects of that."""
    watching = Watch()
    yield watching
    assert watching.faults() == []


@pytest.fixture
def opening(browser: "Browser", watch: Watch, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a server, each time in a browser profile of its own, or in one that is given."""
    contexts: list[BrowserContext] = []

    def open_(
        server: Served, path: str = "", *, context: "BrowserContext | None" = None, is_ready: bool = True, **how: Any
    ) -> Ui:
        if context is None:
            settings = {
                "locale": "en-US",
                "viewport": {"width": 1280, "height": 900},
                "reduced_motion": "reduce",
                **how,
            }
            context = browser.new_context(accept_downloads=True, **settings)
            context.set_default_timeout(15_000)
            contexts.append(context)
            watch.context(context, server.address)
        page = context.new_page()
        page.goto(f"{server.address}/{path}")
        ui = Ui(page, server, tmp_path)
        if is_ready:
            page.locator("[name=steps]").wait_for()  # what the server offers is known
        return ui

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def ui(opening: Open, server: Served) -> Ui:
    """The page over the model of drawn scenes."""
    return opening(server)


@pytest.fixture
def slow(opening: Open, slow_server: Served) -> Ui:
    """The page over the slow model."""
    return opening(slow_server)
