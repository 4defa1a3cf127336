"""What a gallery takes for done, what it replaces, and what it leaves alone: known by target, source and content."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixrt import Editor
from pixrt.apps.entries import read_entries
from pixrt.apps.gallery import Gallery, Outcome
from pixrt.apps.journal import JOURNAL_NAME, open_journal
from shapes import BLUE, Run

JOB = {"options": {"seed": 1}}
NULL = ("--backend", "null", "--steps", 1, "--seed", 1)


@pytest.fixture(scope="module")
def null() -> Iterator[Editor]:
    with Editor("shapes", backend="null", max_batch=4) as editor:
        yield editor


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (shade, 0, 0)).save(path)


def make(null: Editor, source: Path, output: Path, text: str = BLUE, **more: Any) -> dict[str, Outcome]:
    with open_journal(output, JOB) as journal:
        gallery = Gallery(null, output, journal, max_batch=4, **more)
        entries = read_entries([str(source)], text, {"steps": 1, "seed": 1}, output)
        return {outcome.target.name: outcome for outcome in gallery.run(entries)}


def states(outcomes: dict[str, Outcome]) -> dict[str, tuple[str, bool]]:
    return {name: (outcome.state, outcome.skipped) for name, outcome in outcomes.items()}


DONE, SKIPPED, REFUSED = ("done", False), ("done", True), ("refused", False)


def test_two_galleries_of_equal_names(null: Editor, tmp_path: Path) -> None:
    """Nothing tells their files apart but what is in them: same size, same time."""
    output = tmp_path / "out"
    for name, shade in (("one", 10), ("two", 20)):
        picture(tmp_path / name / "a.png", shade)
        os.utime(tmp_path / name / "a.png", (1e9, 1e9))
    assert (tmp_path / "one" / "a.png").stat().st_size == (tmp_path / "two" / "a.png").stat().st_size
    assert states(make(null, tmp_path / "one", output)) == {"a.png": DONE}
    first = (output / "a.png").read_bytes()
    refused = make(null, tmp_path / "two", output)["a.png"]
    assert refused.state == "refused"
    assert "is the result of ../one/a.png" in str(refused.error)
    assert (output / "a.png").read_bytes() == first
    assert states(make(null, tmp_path / "one", output)) == {"a.png": SKIPPED}
    replaced = make(null, tmp_path / "two", output, overwrite=True)["a.png"]
    assert (replaced.state, replaced.replaced) == ("done", "--overwrite")
    assert states(make(null, tmp_path / "one", output)) == {"a.png": REFUSED}
    assert states(make(null, tmp_path / "two", output)) == {"a.png": SKIPPED}


def test_the_same_gallery_by_another_path(null: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "one" / "a.png", 10)
    make(null, tmp_path / "one", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "one")
    assert states(make(null, Path("../one/."), Path("../out"))) == {"a.png": SKIPPED}
    (tmp_path / "moved").mkdir()
    for name in ("one", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    picture(tmp_path / "moved" / "one" / "a.png", 30)  # a changed picture is still the same one
    outcome = make(null, tmp_path / "moved" / "one", tmp_path / "moved" / "out")["a.png"]
    assert (outcome.state, outcome.replaced) == ("done", "its picture or its row has changed")


def test_a_row_that_changes_and_changes_back(null: Editor, tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a.png", 10)
    made = []
    for text in (BLUE, "make it darker", BLUE):
        outcome = make(null, tmp_path / "one", tmp_path / "out", text)["a.png"]
        assert (outcome.state, outcome.skipped) == DONE
        assert bool(outcome.replaced) == bool(made)  # told
        made.append((tmp_path / "out" / "a.png").read_bytes())
    assert made[0] == made[2] != made[1]
    assert states(make(null, tmp_path / "one", tmp_path / "out")) == {"a.png": SKIPPED}


def test_files_that_it_did_not_make(null: Editor, tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / "one" / f"{number}.png", number)
    output = tmp_path / "out"
    output.mkdir()
    (output / "0.png").write_bytes(b"a stranger's")
    (tmp_path / "far.png").write_bytes(b"at the end of a link")
    (output / "1.png").symlink_to(tmp_path / "far.png")
    os.mkfifo(output / "2.png")
    outcomes = make(null, tmp_path / "one", output)
    assert states(outcomes) == {
        **{f"{number}.png": REFUSED for number in range(3)},
        **{f"{number}.png": DONE for number in (3, 4)},
    }
    assert all("--overwrite" in str(outcomes[f"{number}.png"].error) for number in range(2))
    (output / "3.png").write_bytes(b"retouched by hand")
    assert states(make(null, tmp_path / "one", output))["3.png"] == REFUSED
    assert (output / "3.png").read_bytes() == b"retouched by hand"
    assert (output / "0.png").read_bytes() == b"a stranger's"
    assert (tmp_path / "far.png").read_bytes() == b"at the end of a link"
    outcomes = make(null, tmp_path / "one", output, overwrite=True)
    assert states(outcomes) == {
        **{f"{number}.png": DONE for number in (0, 1, 3)},
        "2.png": REFUSED,  # a pipe never is a result
        "4.png": SKIPPED,
    }
    assert (output / "1.png").is_symlink()
    assert (tmp_path / "far.png").read_bytes().startswith(b"\x89PNG")


def test_results_that_were_emptied_or_removed_are_made_again(null: Editor, tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "one" / f"{number}.png", number)
    make(null, tmp_path / "one", tmp_path / "out")
    whole = (tmp_path / "out" / "0.png").read_bytes()
    (tmp_path / "out" / "0.png").write_bytes(b"")
    (tmp_path / "out" / "1.png").unlink()
    outcomes = make(null, tmp_path / "one", tmp_path / "out")
    assert states(outcomes) == {"0.png": DONE, "1.png": DONE, "2.png": SKIPPED}
    assert (outcomes["0.png"].replaced, outcomes["1.png"].replaced) == ("it was empty", "")
    assert (tmp_path / "out" / "0.png").read_bytes() == whole


def test_killed_after_its_line_and_before_its_file(
    null: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after its file: both go on as if nothing had been."""
    for number in range(2):
        picture(tmp_path / "one" / f"{number}.png", number)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pixrt.apps.gallery.atomic_write", killed)
    with pytest.raises(KeyboardInterrupt):
        make(null, tmp_path / "one", tmp_path / "out")
    monkeypatch.undo()
    rows = [json.loads(line) for line in (tmp_path / "out" / JOURNAL_NAME).read_text().splitlines()]
    assert "done" in [row.get("state") for row in rows]
    assert set(states(make(null, tmp_path / "one", tmp_path / "out")).values()) == {DONE}
    assert set(states(make(null, tmp_path / "one", tmp_path / "out")).values()) == {SKIPPED}


def test_what_the_command_says(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", 1)
    picture(tmp_path / "in" / "b.png", 2)
    picture(tmp_path / "out" / "a.png", 3)
    before = (tmp_path / "out" / "a.png").read_bytes()
    words = ("batch", "in", BLUE, "-o", "out", *NULL)
    outcome = run(*words)
    assert outcome.code == 7
    assert "1 results were not made: out/a.png exists and was not made by this gallery" in outcome.err
    assert "1 edited" in outcome.err
    assert (tmp_path / "out" / "a.png").read_bytes() == before
    picture(tmp_path / "in" / "b.png", 4)
    outcome = run(*words, "--overwrite")
    assert outcome.code == 0
    assert "note: out/a.png is made anew: --overwrite" in outcome.err
    assert "note: out/b.png is made anew: its picture or its row has changed" in outcome.err
    assert "2 finished before" in run(*words).err
    (tmp_path / "out" / JOURNAL_NAME).write_text("my own notes")
    outcome = run(*words, "--overwrite")
    assert outcome.code == 7
    assert "is not a journal of pixrt, and is left as it is" in outcome.err
    assert (tmp_path / "out" / JOURNAL_NAME).read_text() == "my own notes"
