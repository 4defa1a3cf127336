"""The table of docs/page-comparison.md names tests that there are."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "page-comparison.md"


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(test_\w+)::(test_\w+)`", PAGE.read_text())
    assert len(named) > 30
    texts = {file: (FOLDER / f"{file}.py").read_text() for file, _ in named}
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in texts[file]] == []


def test_every_source_is_listed() -> None:
    table, _, sources = PAGE.read_text().partition("Sources, as read")
    listed = re.findall(r"^(\d+)\. ", sources, re.MULTILINE)
    assert sorted(set(re.findall(r"\[(\d+)\]", table)), key=int) == listed
