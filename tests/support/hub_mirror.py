"""The routes of the Hugging Face hub that its client asks for a model, over a folder of this machine."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Mirror:
    """A hub with one repository.

    Attributes:
        cut_after: after so many bytes of a file the connection ends, once.
        ranges: what was asked for of files that were begun before.
    """

    repository: str
    folder: Path
    cut_after: int | None = None
    gated: bool = False
    ranges: list[str] = field(default_factory=list)
    url: str = ""

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@contextmanager
def hub(mirror: Mirror) -> Iterator[Mirror]:
    """Serve it on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if mirror.gated:
                self._send(403, b"", with_body, {"X-Error-Code": "GatedRepo"})
            elif re.fullmatch(rf"/api/models/{mirror.repository}(/revision/\w+)?", path):
                siblings = [{"rfilename": n, "size": (mirror.folder / n).stat().st_size} for n in mirror.files()]
                about = {"id": mirror.repository, "sha": COMMIT, "siblings": siblings}
                self._send(200, json.dumps(about).encode(), with_body, {"Content-Type": "application/json"})
            elif match := re.fullmatch(rf"/{mirror.repository}/resolve/\w+/(.+)", path):
                self._file(match[1], with_body)
            else:
                self._send(404, b"", with_body, {"X-Error-Code": "RepoNotFound"})

        def _file(self, name: str, with_body: bool) -> None:
            content = (mirror.folder / name).read_bytes()
            headers = {
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Repo-Commit": COMMIT,
                "Accept-Ranges": "bytes",
            }
            asked = self.headers.get("Range")
            if asked is None or not with_body:
                self._send(200, content, with_body, headers)
                return
            mirror.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], with_body, headers)

        def _send(self, status: int, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not with_body:
                return
            if mirror.cut_after is not None and len(body) > mirror.cut_after:
                self.wfile.write(body[: mirror.cut_after])
                self.wfile.flush()
                mirror.cut_after = None
                self.close_connection = True
                return
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
