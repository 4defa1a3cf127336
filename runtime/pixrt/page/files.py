"""The page's files, read once into memory, and the answer to whoever asks for one of them.

A path is looked up in a table, so none leads out of the folder. Must not import anything of pixrt, nor a web framework.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
BENEATH = "page/"  # the path under which all files but the first are found, seen from where that one is
WORKER = "sw.js"
MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".md": "text/plain; charset=utf-8",  # licences
}
_POLICY = (
    *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:"),
    *("connect-src 'self'", "manifest-src 'self'", "worker-src 'self'", "base-uri 'none'", "form-action 'none'"),
)
_VERSION_DIGITS, _YEAR = 16, 31_536_000
_NO_GZIP = re.compile(r";\s*q=0(\.0*)?\s*$")


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file. `gzipped` is None where compressing does not help; `etag` is weak: it stands for both."""

    data: bytes = field(repr=False)
    gzipped: bytes | None = field(repr=False)
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets: a status, headers (lower case), and a body, which is empty to HEAD and with 304."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


def read_page(folder: Path = STATIC) -> dict[str, PageFile]:
    """Every file by its path in the folder, with slashes; hidden ones, and other kinds than `MEDIA_TYPES`, are none."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: _file(path.read_bytes(), MEDIA_TYPES[path.suffix])
        for name, path in files.items()
        if path.suffix in MEDIA_TYPES and not any(part.startswith(".") for part in name.split("/"))
    }


def _file(data: bytes, media_type: str) -> PageFile:
    gzipped = gzip.compress(data, mtime=0)
    etag = f'W/"{hashlib.sha256(data).hexdigest()}"'
    return PageFile(data, gzipped if len(gzipped) < len(data) else None, media_type, etag)


def content_security_policy(frame_ancestors: str = "'none'") -> str:
    """What a browser lets the page do: nothing from or to anywhere but where it came from."""
    return "; ".join([*_POLICY, f"frame-ancestors {frame_ancestors}"])


class Page:
    """The page as it is answered. `frame_ancestors` are the sites that may show it in a frame, as CSP spells them."""

    def __init__(self, files: Mapping[str, PageFile] | None = None, frame_ancestors: str = "'none'") -> None:
        files = read_page() if files is None else files
        self._policy = content_security_policy(frame_ancestors)
        whole = "".join(files[name].etag for name in sorted(files)).encode()
        self._version = hashlib.sha256(whole).hexdigest()[:_VERSION_DIGITS] + "/"
        # Files are named under a version of all of them, so that a browser need not ask again for any but the first.
        first = files[INDEX].data.replace(f'"{BENEATH}'.encode(), f'"{BENEATH}{self._version}'.encode())
        self._files = {**files, INDEX: _file(first, files[INDEX].media_type)}

    def answer(self, path: str, headers: Mapping[str, str], *, is_head: bool = False) -> Answer | None:
        """The answer to GET or HEAD of a path, seen from where the page is; None if there is none.

        It is "", or "page/..." of a file as it is now, or "page/VERSION/..." of a file for ever.

        `headers` are the request's, in lower case.
        """
        is_for_ever = path.startswith(BENEATH + self._version)
        name = INDEX if path == "" else path.removeprefix(BENEATH).removeprefix(self._version if is_for_ever else "")
        file = self._files.get(name)
        if file is None or (path != "" and (not path.startswith(BENEATH) or name == INDEX)):
            return None
        told = {
            "etag": file.etag,
            # Else kept, and asked for again each time: an update is seen at once.
            "cache-control": f"private, max-age={_YEAR}, immutable" if is_for_ever else "no-cache",
            "vary": "accept-encoding",
            "content-security-policy": self._policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            **({"service-worker-allowed": "/"} if name == WORKER else {}),
        }
        if _has(headers.get("if-none-match", ""), file.etag):
            return Answer(304, told, b"")
        body = file.data
        if file.gzipped is not None and _takes_gzip(headers.get("accept-encoding", "")):
            body = file.gzipped
            told["content-encoding"] = "gzip"
        told |= {"content-type": file.media_type, "content-length": str(len(body))}
        return Answer(200, told, b"" if is_head else body)


def _has(given: str, etag: str) -> bool:
    """Whether If-None-Match names it: compared weakly, as RFC 9110 says."""
    names = [name.strip().removeprefix("W/") for name in given.split(",")]
    return "*" in names or etag.removeprefix("W/") in names


def _takes_gzip(accepted: str) -> bool:
    """Whether Accept-Encoding names gzip, and does not refuse it."""
    given = [each.strip().lower() for each in accepted.split(",")]
    return any(each.partition(";")[0].strip() == "gzip" and not _NO_GZIP.search(each) for each in given)
