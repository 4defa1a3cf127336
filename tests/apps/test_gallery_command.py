"""`pixrt batch` as a user meets it, and what is found before anything runs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixrt import Editor
from pixrt.apps.entries import count_entries, read_entries
from pixrt.apps.gallery import Gallery, Outcome
from pixrt.apps.journal import JOURNAL_NAME, open_journal
from pixrt.errors import DataError
from shapes import BLUE, SCENE, Run, files


@pytest.fixture(scope="module")
def null() -> Iterator[Editor]:
    with Editor("shapes", backend="null") as editor:
        yield editor


def run_gallery(null: Editor, folder: Path, output: Path) -> list[Outcome]:
    with open_journal(output, {}) as journal:
        entries = read_entries([str(folder)], BLUE, {"steps": 1, "seed": 1}, output)
        return list(Gallery(null, output, journal, max_batch=4).run(entries))


class TestCommand:
    def test_a_folder(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for name in ("one.png", "two.png"):
            (tmp_path / "in" / name).write_bytes(SCENE.read_bytes())
        words = ["batch", "in", BLUE, "-o", "out", "--steps", 2]
        outcome = run(*words, "--json")
        assert outcome.code == 0
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        assert {line["output"] for line in lines} == {"out/one.png", "out/two.png"}
        assert len({line["parameters"]["seed"] for line in lines}) == 1
        again = run(*words)  # also with the seed that was drawn
        assert (again.code, again.out) == (0, "")
        assert "0 edited" in again.err
        assert "2 finished before" in again.err
        assert "results and journal are in out" in again.err
        assert files(tmp_path / "out") >= {"one.png", "two.png", JOURNAL_NAME}
        other = run("batch", "in", "make it darker", "-o", "out", "--steps", 2)
        assert other.code == 7
        assert "holds results with instruction" in other.err

    def test_a_long_text_and_one_that_is_a_files_name(self, run: Run, tmp_path: Path) -> None:
        assert run("batch", "scene.png", "make it darker " * 30, "-o", "out", "--steps", 1).code == 0
        for _ in range(2):  # the second time there is a folder of this name
            assert run("batch", "scene.png", "darker", "-o", "darker", "--steps", 1).code == 0
        assert "tokens of the instruction" in run("batch", "scene.png", "red " * 90, "-o", "x", "--steps", 1).err

    def test_broken_ones_end_with_1(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "broken.png").write_bytes(b"\x89PNG")
        outcome = run("batch", "*.png", BLUE, "-o", "out", "--steps", 1)
        assert outcome.code == 1
        assert "broken.png is not a picture" in outcome.err
        assert "1 edited" in outcome.err

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["batch", "nowhere", BLUE, "-o", "out"], 9, "neither a picture"),
            (["batch", "scene.png", "-o", "out"], 2, "alone is not enough"),
            (["batch", "scene.png", "scene.png", "-o", "out"], 2, "must be the text"),
            (["batch", "scene.png", BLUE, "-o", "out", "--preset", "lcm"], 2, "has no LoRA"),
            (["batch", "scene.png", BLUE, "-o", "out", "--mask-blur", "3"], 2, "there is no mask"),
            (["batch", "scene.png", BLUE, "-o", "out", "--scheduler", "lcm", "--steps", "60", "--dry-run"], 2, "LCM"),
            (["batch", "scene.png", "\udcff", "-o", "out"], 2, "not valid Unicode"),
            (["batch", "scene.png", BLUE, "-o", "out.png"], 2, "a file's name"),
            (["batch", "scene.png", BLUE, "-o", "."], 9, "is an input"),
            (["batch", "scene.png", BLUE, "-o", "out", "--steps", "0"], 2, "steps is 0"),
            (["batch", "rows.csv", "-o", "out"], 9, "row 2 of rows.csv: steps is"),
        ],
    )
    def test_mistakes(self, run: Run, tmp_path: Path, words: list[str], code: int, message: str) -> None:
        (tmp_path / "rows.csv").write_text("image,instruction,steps\nscene.png,make it darker,many\n")
        outcome = run(*words)
        assert (outcome.code, outcome.out) == (code, "")
        assert message in outcome.err
        assert not (tmp_path / "out").exists()


def test_counting_finds_two_results_for_one_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(SCENE.read_bytes())
    sources = [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(DataError, match="would both be written"):
        count_entries(read_entries(sources, BLUE, {}, tmp_path / "out"), tmp_path / "out")


class TestCounting:
    """Before anything runs."""

    def count(self, folder: Path, *rows: dict[str, str], output: str = ".") -> int:
        (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return count_entries(read_entries([str(folder / "rows.jsonl")], BLUE, {}, folder / output), folder / output)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([{"image": "x.png", "output": "y.png"}, {"image": "y.png", "output": "z.png"}], "y.png is an input"),
            (
                [{"image": "x.png", "output": "m.png"}, {"image": "y.png", "output": "z.png", "mask": "m.png"}],
                "an input",
            ),
            ([{"image": "x.png", "output": "link.png"}, {"image": "x.png", "output": "z.png"}], "is an input"),
            ([{"image": "x.png", "output": "q.png"}, {"image": "y.png", "output": "q.png/r.png"}], "which is a result"),
            ([{"image": "x.png", "output": "a" * 300}], "too long a name"),
            ([{"image": "x.png", "output": "sub.png"}], "is a folder"),
        ],
    )
    def test_no_result_goes_where_none_may(self, tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
        for name in ("x.png", "y.png", "m.png"):
            (tmp_path / name).write_bytes(SCENE.read_bytes())
        (tmp_path / "link.png").symlink_to("x.png")
        (tmp_path / "sub.png").mkdir()
        with pytest.raises(DataError, match=message):
            self.count(tmp_path, *rows)
        if "name" not in message:
            assert self.count(tmp_path, *rows[:1], output="out") == 1

    def test_a_loop_of_links_is_a_picture_that_cannot_be_read(self, null: Editor, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "loop.png").symlink_to("loop.png")
        (folder / "a.png").write_bytes(SCENE.read_bytes())
        assert count_entries(read_entries([str(folder)], BLUE, {}, tmp_path / "out"), tmp_path / "out") == 2
        states = {o.entry.path.name: o.state for o in run_gallery(null, folder, tmp_path / "out")}
        assert states == {"loop.png": "failed", "a.png": "done"}

    def test_a_name_that_is_no_text(self, null: Editor, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes(SCENE.read_bytes())
        for _ in range(2):
            assert [o.state for o in run_gallery(null, folder, tmp_path / "out")] == ["done"]

    def test_what_a_killed_writer_left_is_removed(self, null: Editor, tmp_path: Path) -> None:
        (tmp_path / "out" / "a").mkdir(parents=True)
        left = tmp_path / "out" / "a" / ".pixrt-0123456789abcdef.tmp"
        left.write_bytes(b"half")
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.png").write_bytes(SCENE.read_bytes())
        run_gallery(null, tmp_path / "in", tmp_path / "out")
        assert not left.exists()
