"""The page's files: how they are answered, and what they may hold."""

import dataclasses
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pixrt.page.files import INDEX, STATIC, Page, content_security_policy, read_page

MOST_AT_START = 200_000  # bytes, compressed
LANGUAGES = ("en", "de")
NAMES = {"www.w3.org", "ns.adobe.com", "cv.iptc.org", "iptc.org"}  # of XML's words, which nobody asks for
IMPORTS = re.compile(r"""(?:^(?:import|export)\b[^;"'`=(]*|\bimport\()["']([^"']+)["']""", re.MULTILINE)
LONG = "a long text, " * 50


@pytest.fixture
def page(tmp_path: Path) -> Page:
    files = {
        "index.html": LONG,
        "app.js": LONG,
        "core/api.js": "x",
        "sw.js": "",
        ".hidden.js": "no",
        "core/.git/a.js": "no",
        "notes.orig": "no",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Page(read_page(tmp_path))


def test_only_the_page_s_own_files_are_found(page: Page) -> None:
    found = ["", "page/app.js", "page/core/api.js", "page/sw.js"]
    for path in found:
        answer = page.answer(path, {})
        assert answer is not None
        assert answer.status == 200
    nowhere = ["index.html", "page", "page/", "page/index.html", "app.js", "page/core", "page/core/", "page//app.js"]
    outside = ["page/../files.py", "../files.py", "/etc/passwd", "page//etc/passwd", "page/..%2ffiles.py"]
    for path in [*nowhere, *outside, "page/.hidden.js", "page/core/.git/a.js", "page/notes.orig", "page/a\0.js"]:
        assert page.answer(path, {}) is None, path


@pytest.mark.parametrize(
    ("accepted", "is_gzip"),
    [
        ("gzip", True),
        ("br;q=1, GZip;q=0.5", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("gzip;q=0.01", True),
        ("xgzip", False),
    ],
)
def test_a_file_is_compressed_for_who_can_read_that(page: Page, accepted: str, is_gzip: bool) -> None:
    answer = page.answer("page/app.js", {"accept-encoding": accepted})
    assert answer is not None
    assert answer.headers.get("content-encoding") == ("gzip" if is_gzip else None)
    assert (gzip.decompress(answer.body) if is_gzip else answer.body) == LONG.encode()
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["vary"] == "accept-encoding"


def test_a_short_file_is_not_compressed(page: Page) -> None:
    answer = page.answer("page/core/api.js", {"accept-encoding": "gzip"})
    assert answer is not None
    assert answer.body == b"x"


def test_the_same_files_have_the_same_bytes(page: Page, tmp_path: Path) -> None:
    first, second = page.answer("", {"accept-encoding": "gzip"}), Page(read_page(tmp_path)).answer("", {})
    again = Page(read_page(tmp_path)).answer("", {"accept-encoding": "gzip"})
    assert first is not None
    assert second is not None
    assert first == again
    assert first.headers["etag"] == second.headers["etag"]


def test_a_browser_that_has_a_file_is_not_sent_it_again(page: Page) -> None:
    fresh = page.answer("page/app.js", {})
    assert fresh is not None
    etag = fresh.headers["etag"]
    for given in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        answer = page.answer("page/app.js", {"if-none-match": given})
        assert answer is not None
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in answer.headers
    answer = page.answer("page/app.js", {"if-none-match": '"other"'})
    assert answer is not None
    assert answer.status == 200


def test_head_tells_what_get_does(page: Page) -> None:
    for headers in ({}, {"accept-encoding": "gzip"}):
        got, head = page.answer("", headers), page.answer("", headers, is_head=True)
        assert got is not None
        assert head is not None
        assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


def test_headers(page: Page) -> None:
    answer = page.answer("", {})
    assert answer is not None
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "service-worker-allowed" not in answer.headers
    worker = page.answer("page/sw.js", {})
    assert worker is not None
    assert worker.headers["service-worker-allowed"] == "/"


def test_files_are_named_under_a_version_of_all_of_them() -> None:
    files = read_page()
    page, changed = Page(files), Page({**files, "app.js": dataclasses.replace(files["app.js"], etag='W/"other"')})
    (version,), (other,) = (
        set(re.findall(rb'"page/([0-9a-f]{16})/', each.answer("", {}).body))
        for each in (page, changed)  # type: ignore[union-attr]
    )
    assert version != other
    answer = page.answer(f"page/{version.decode()}/core/api.js", {})
    assert answer is not None
    assert answer.body == files["core/api.js"].data
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert page.answer("page/core/api.js", {}).headers["cache-control"] == "no-cache"  # type: ignore[union-attr]
    assert page.answer(f"page/{other.decode()}/core/api.js", {}) is None


def test_who_may_show_it_in_a_frame() -> None:
    policy = dict(part.split(" ", 1) for part in content_security_policy().split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in content_security_policy()
    framed = Page(read_page(), frame_ancestors="https://huggingface.co").answer("", {})
    assert framed is not None
    assert framed.headers["content-security-policy"].endswith("; frame-ancestors https://huggingface.co")
    assert content_security_policy("https://huggingface.co").endswith("; frame-ancestors https://huggingface.co")


# What the real files hold.


def sources(*suffixes: str, vendored: bool = False) -> dict[str, str]:
    """The page's own files of these kinds, without comments: those name licences and paths."""
    return {
        name: re.sub(r"/\*.*?\*/|^\s*//.*?$", "", file.data.decode(), flags=re.DOTALL | re.MULTILINE)
        for name, file in read_page().items()
        if name.endswith(suffixes) and (vendored or not name.startswith("vendor/"))
    }


def test_what_the_page_loads_at_start_is_small() -> None:
    """All that it has, but the words of other languages and the licences: nothing is counted on to come later."""
    files = {
        name: len(file.gzipped or file.data)
        for name, file in read_page().items()
        if not name.endswith(".md") and (not name.startswith("texts/") or name == f"texts/{LANGUAGES[0]}.json")
    }
    assert INDEX in files
    assert sum(files.values()) < MOST_AT_START, dict(sorted(files.items(), key=lambda each: -each[1]))


def test_nothing_comes_from_another_host() -> None:
    for name, text in sources(".html", ".css", ".js", ".json", ".webmanifest", ".svg", vendored=True).items():
        assert set(re.findall(r"\b(?:https?|wss?):/?/?([\w.-]+\.\w+)", text)) <= NAMES, name
        assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?//""", text), name


class Markup(HTMLParser):
    """What the browser would run or refuse, and what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._open = tag
        self.inline += [f"<{tag} {name}>" for name, _ in attrs if name == "style" or name.startswith("on")]
        self.inline += [f"<{tag}>"] if tag in ("style", "base") else []
        self.loaded += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script" and data.strip():
            self.inline.append("<script>")


def test_the_first_file_has_nothing_inline_and_loads_what_is_there() -> None:
    markup = Markup()
    files = read_page()
    markup.feed(files[INDEX].data.decode())
    assert markup.inline == []
    assert markup.loaded
    for address in markup.loaded:
        assert address.removeprefix("page/") in files, address  # relative, so that a proxy may put it anywhere


def test_scripts_import_what_is_there() -> None:
    files = read_page()
    for name, text in sources(".js").items():
        for address in IMPORTS.findall(text):
            assert address.startswith("."), (name, address)
            path = (STATIC / name).parent / address
            assert path.resolve().relative_to(STATIC).as_posix() in files, (name, address)


def test_nothing_asks_for_an_absolute_path() -> None:
    for name, text in sources(".js", ".html", ".css", ".webmanifest").items():
        assert not re.search(r"""["'`(]/(?:v1|page)\b""", text), name


def test_scripts_run_no_text() -> None:
    for name, text in sources(".js").items():
        assert not re.search(r"\beval\(|new Function\(|\.innerHTML\b|\.outerHTML\b|insertAdjacentHTML", text), name


@pytest.fixture(scope="module")
def texts() -> dict[str, dict[str, str]]:
    """All words, by language."""

    def flat(value: Any, name: str = "") -> dict[str, str]:
        if not isinstance(value, dict):
            return {name: value}
        found: dict[str, str] = {}
        for key, each in value.items():
            found |= flat(each, f"{name}.{key}".lstrip("."))
        return found

    read = {name: flat(json.loads(text)) for name, text in sources(".json").items() if name.startswith("texts/")}
    return {Path(name).stem: words for name, words in read.items()}


def test_every_language_has_the_same_texts(texts: dict[str, dict[str, str]]) -> None:
    assert set(texts) == set(LANGUAGES)
    first = texts[LANGUAGES[0]]
    for language, words in texts.items():
        assert words.keys() == first.keys(), language
        for key, text in words.items():
            assert text.strip(), (language, key)
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", first[key])), (language, key)


def test_every_text_that_is_asked_for_is_there(texts: dict[str, dict[str, str]]) -> None:
    known = texts[LANGUAGES[0]].keys()
    known |= {key.removesuffix(".other") for key in known}
    for name, text in sources(".js").items():
        for key in re.findall(r"""\bt\(\s*["']([^"']+)["']""", text):
            assert key in known, (name, key)
        for start in re.findall(r"\bt\(\s*`([^`$]*)\$\{", text):
            assert any(key.startswith(start) for key in known), (name, start)
