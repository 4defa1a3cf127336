"""What the page's tests share: servers as processes, a watch over pages, and the page's parts by their roles."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

# Root has no sandbox. No name means anything but this machine's: the page must do without the world.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


@dataclass
class Served:
    """A server: its address, its process, and what it was started with."""

    address: str
    process: "subprocess.Popen[str]"
    folder: Path
    arguments: tuple[str, ...]


@contextlib.contextmanager
def served(folder: Path, *arguments: str, port: int = 0) -> Iterator[Served]:
    """`pixrt serve` as a process, its log in the folder."""
    command = [sys.executable, "-m", "pixrt", "serve", "--port", str(port), *arguments]
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


@dataclass
class Ui:
    """A page of a server, by what a person sees."""

    page: "Page"
    server: Served
    folder: Path
