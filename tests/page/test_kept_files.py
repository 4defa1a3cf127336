"""What the page is made of, without a browser: its libraries as they were vendored, and its words in every language."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from pixrt.options.fields import option_fields, rule_of
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.page.files import STATIC

VENDOR = STATIC / "vendor"
TEXTS = {path.stem: json.loads(path.read_text()) for path in (STATIC / "texts").glob("*.json")}
SOURCES = [path for path in STATIC.rglob("*.js") if path.parent != VENDOR]
CALL = re.compile(r"""\b(?:t|has)\(\s*(["'])([\w.]+)\1""")
PLURALS = (".one", ".other")


def rows() -> dict[str, str]:
    """SHA-256 by file, of the table in LICENSES.md."""
    found = re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", (VENDOR / "LICENSES.md").read_text(), re.M)
    return dict(found)


def test_libraries_are_those_that_were_vendored() -> None:
    assert rows() == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}


def test_every_library_has_its_licence() -> None:
    text = (VENDOR / "LICENSES.md").read_text()
    for name in re.findall(r"\| ([^|]+) \| [0-9a-f]{64}", text):
        for package in name.strip().split(", "):
            assert f"## {package} (" in text


def test_every_language_has_the_same_texts_with_the_same_gaps() -> None:
    gaps = {
        language: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in texts.items()}
        for language, texts in TEXTS.items()
    }
    assert gaps["en"]
    for language, own in gaps.items():
        assert own == gaps["en"], language


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_every_text_that_is_asked_for_is_there(path: Path) -> None:
    for _, key in CALL.findall(path.read_text()):
        assert key in TEXTS["en"] or key + PLURALS[1] in TEXTS["en"], key


@pytest.mark.parametrize("task", TASK_OPTIONS)
def test_every_option_has_plain_words_and_a_hint(task: str) -> None:
    for name, each in option_fields(TASK_OPTIONS[task]).items():
        if rule_of(each).kind != "path":
            assert {f"option.{name}", f"hint.{name}"} <= set(TEXTS["en"]), name
    assert {f"task.{task}", f"run.{task}", f"prompt.{task}"} <= set(TEXTS["en"])
