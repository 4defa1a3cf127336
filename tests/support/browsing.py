"""What the page's tests share: servers as processes, a watch over pages, and the page's parts by their roles."""

import base64
import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from PIL import Image

from pixrt.page.files import STATIC

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

# Root has no sandbox. No name means anything but this machine's: the page must do without the world.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]

SLOW_STEPS = ("--backend", "null", "--provider-option", "step_ms=250")


def chromium() -> str | None:
    """Where it is: what PIXRT_CHROMIUM names, or Debian's; None if there is none."""
    named = os.environ.get("PIXRT_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Served:
    """A server: its address, its process, and what it was started with."""

    address: str
    process: "subprocess.Popen[str]"
    folder: Path
    arguments: tuple[str, ...]


@contextlib.contextmanager
def served(folder: Path, *arguments: str, port: int = 0) -> Iterator[Served]:
    """`pixrt serve` as a process, its log in the folder; the model of drawn scenes, if none is named."""
    command = [sys.executable, "-m", "pixrt", "serve", "--bundle", "shapes", "--port", str(port), *arguments]
    log = folder / "server.log"
    with (
        log.open("a") as told,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True, cwd=folder) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, log.read_text()[-3000:]
            yield Served(address, process, folder, arguments)
        finally:
            process.kill()


@dataclass
class Watch:
    """What pages do that none should: errors on the console, uncaught ones, and requests to anybody else."""

    _seen: list[str] = field(default_factory=list)
    _expected: list[str] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """Faults of these words are part of the test."""
        self._expected.append(pattern)

    def faults(self) -> list[str]:
        """Those that nobody expects."""
        return [seen for seen in self._seen if not any(re.search(each, seen) for each in self._expected)]

    def context(self, context: "BrowserContext", address: str) -> None:
        """Watch all pages and workers of a browser profile."""
        own = urlsplit(address).netloc
        context.on("console", lambda said: said.type in ("error", "warning") and self._see(f"console: {said.text}"))
        context.on("weberror", lambda error: self._see(f"error: {error.error}"))
        context.on("request", lambda request: self._request(request.url, own))

    def _see(self, what: str) -> None:
        self._seen.append(what)

    def _request(self, url: str, own: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("blob", "data") and parts.netloc != own:
            self._see(f"request: {url}")


def picture(path: Path) -> Image.Image:
    """What a file shows, and the file is closed."""
    with Image.open(path) as image:
        return image.convert("RGB")


@functools.cache
def words(language: str) -> dict[str, str]:
    """The page's texts, by their keys."""
    texts: dict[str, str] = json.loads((STATIC / "texts" / f"{language}.json").read_text())
    return texts


@dataclass
class Ui:
    """A page of a server, by what a person sees and does. The words are those of the page's file of texts."""

    page: "Page"
    server: Served
    folder: Path
    language: str = "en"

    def t(self, key: str, **values: object) -> str:
        """A text as the page shows it."""
        texts = words(self.language)
        if "n" in values:
            key = next(each for each in (f"{key}.one" * (values["n"] == 1), f"{key}.other", key) if each in texts)
        return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), texts[key])

    def like(self, key: str, **values: object) -> "re.Pattern[str]":
        """The same, where values that are not given may be anything."""
        text = words(self.language)[key]
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        parts = re.split(r"\{\w+\}", text)
        return re.compile(".+".join(map(re.escape, parts)))

    @property
    def compose(self) -> "Locator":
        """The part in which one says what is wanted."""
        return self.region("app.compose")

    @property
    def instruction(self) -> "Locator":
        """Where one writes what should change."""
        return self.page.locator("#prompt")

    @property
    def progress(self) -> "Locator":
        """What is under way; hidden if nothing is."""
        return self.region("progress.title")

    @property
    def rows(self) -> "Locator":
        """All pictures of the history."""
        return self.page.get_by_role("treeitem")

    @property
    def row(self) -> "Locator":
        """The one that is looked at."""
        return self.page.get_by_role("treeitem", selected=True)

    @property
    def result(self) -> "Locator":
        """What can be done with the picture that is looked at."""
        return self.region("result.title")

    @property
    def viewer(self) -> "Locator":
        """The picture, and what it is compared with."""
        return self.region("viewer.title")

    @property
    def dialog(self) -> "Locator":
        """The window that is open."""
        return self.page.get_by_role("dialog")

    def region(self, key: str) -> "Locator":
        """A part of the page, by the key of its name."""
        return self.page.get_by_role("region", name=self.t(key), exact=True)

    def button(self, key: str, within: "Locator | None" = None, **values: object) -> "Locator":
        """A button, by the key of its name. An input for files is one, too: it comes second."""
        return (within or self.page).get_by_role("button", name=self.t(key, **values), exact=True).first

    def control(self, name: str) -> "Locator":
        """An option's control, by its label in plain words."""
        return self.compose.get_by_label(re.compile(f"^{re.escape(self.t(f'option.{name}'))}( |$)")).first

    def give(self, button: "Locator", *files: Path) -> None:
        """Click on a button that asks for files, and choose them."""
        with self.page.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files(list(files))

    def bring(self, *files: Path) -> None:
        """Choose pictures, and wait until they are in the history."""
        from playwright.sync_api import expect

        before = self.rows.count()
        self.give(self.button("source.choose", self.compose), *files)
        expect(self.rows).to_have_count(before + len(files), timeout=30_000)

    def drop(self, *files: Path) -> None:
        """Drop pictures on the page, as from a file manager."""
        self._hand_over("drop", files)

    def paste(self, *files: Path) -> None:
        """Paste pictures."""
        self._hand_over("paste", files)

    def _hand_over(self, how: str, files: Sequence[Path]) -> None:
        """Neither can be done by keys and mouse: what the browser would tell the page of is made by hand."""
        given = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in files]
        self.page.evaluate(
            """([how, given]) => {
              const data = new DataTransfer();
              for (const [name, text] of given) {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                data.items.add(new File([bytes], name, { type: `image/${name.split(".").at(-1)}` }));
              }
              const tell = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
              const events = how === "paste" ? [how] : ["dragenter", "dragover", "drop"];
              const Kind = how === "paste" ? ClipboardEvent : DragEvent;
              for (const name of events) document.body.dispatchEvent(new Kind(name, tell));
            }""",
            [how, given],
        )

    def set(self, name: str, value: object) -> None:
        """Write a value into an option's control."""
        self.control(name).fill(str(value))

    def more(self) -> None:
        """Open what is under "More"."""
        self.compose.get_by_text(self.t("controls.more"), exact=True).click()

    def choose_task(self, name: str) -> None:
        """Change what is to be done."""
        self.compose.get_by_role("radio", name=self.t(f"task.{name}"), exact=True).check()

    def run(self, task: str = "edit") -> None:
        """Send it."""
        self.button(f"run.{task}", self.compose).click()

    def edit(self, text: str, *, pictures: int = 1, **options: object) -> None:
        """Ask for an edit, and wait until its pictures are in the history."""
        before = self.rows.count()
        self.instruction.fill(text)
        for name, value in options.items():
            self.set(name, value)
        self.run()
        self.has(before + pictures)

    def has(self, pictures: int) -> None:
        """So many pictures are in the history, and nothing is under way."""
        from playwright.sync_api import expect

        expect(self.rows).to_have_count(pictures, timeout=30_000)
        expect(self.progress).to_be_hidden()

    def saved(self, button: "Locator") -> Path:
        """The file that a click saves."""
        with self.page.expect_download() as download:
            button.click()
        path = self.folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def download(self) -> Path:
        """The picture that is looked at, as a file."""
        return self.saved(self.button("result.download", self.result))


Open = Callable[..., Ui]
