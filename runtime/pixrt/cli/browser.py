"""Showing a page in the user's browser without telling its address, which holds a key, to anyone else.

A browser's arguments can be read by every user of the machine. So it is given the address of a door, which leads to the
page: once, for a short while, and only who knows its code.
"""

import hmac
import os
import secrets
import sys
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OPEN_SECONDS = 60.0
_HOST = "127.0.0.1"


class Door(ThreadingHTTPServer):
    """Leads the first who knows its address to `target`. It closes by itself."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__((_HOST, 0), _Visit)
        self.target = target
        self._path = f"/{secrets.token_urlsafe(32)}"
        self._lock = threading.Lock()
        self._is_used = False
        threading.Thread(target=self.serve_forever, name="door", daemon=True).start()
        closing = threading.Timer(_OPEN_SECONDS, self._close)
        closing.daemon = True
        closing.start()

    @property
    def address(self) -> str:
        """What a browser is given."""
        return f"http://{self.name}{self._path}"

    @property
    def name(self) -> str:
        """By which it must be called: a web page that makes a name of its own mean this machine is not let in."""
        return f"{_HOST}:{self.server_address[1]}"

    def enter(self, path: str) -> bool:
        """Whether somebody with this path may go through: one may."""
        with self._lock:
            if self._is_used or not hmac.compare_digest(path.encode(), self._path.encode()):
                return False
            self._is_used = True
            return True

    def _close(self) -> None:
        self.shutdown()
        self.server_close()


class _Visit(BaseHTTPRequestHandler):
    """A request at the door."""

    server: Door
    timeout = 10.0

    def do_GET(self) -> None:
        """Lead on, or say what to do."""
        is_in = self.headers.get("Host") == self.server.name and self.server.enter(self.path)
        words = b"" if is_in else b"This address was for one visit. Open the one that `pixrt ui` has printed.\n"
        self.send_response_only(302 if is_in else 410)
        if is_in:
            self.send_header("Location", self.server.target)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged: the path is a secret."""


def has_browser() -> bool:
    """Whether there is a browser with windows; one for the terminal would take it over."""
    is_chosen = bool(os.environ.get("BROWSER"))
    has_screen = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if not (has_screen or is_chosen):
        return False
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return False
    return is_chosen or type(found) is not webbrowser.GenericBrowser


def show(target: str) -> bool:
    """Open a page in the user's browser; whether one was started. May take as long as the browser is open."""
    return webbrowser.open(Door(target).address)
