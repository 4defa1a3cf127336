"""What a gallery is made of: folders, patterns, tables, and their mistakes, each with its row."""

import json
from pathlib import Path
from typing import Any

import pytest

from pixrt.apps.entries import read_entries
from pixrt.errors import DataError, PixrtError
from shapes import BLUE, SCENE


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "in/b.png",
        "in/a.JPG",
        "in/sub/c.webp",
        "in/.hidden/d.png",
        "in/notes.txt",
        "in/out/e.png",
        "mask.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SCENE.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def targets(*sources: str, output: str = "in/out", text: str | None = BLUE, **parameters: Any) -> list[str]:
    return [entry.target.as_posix() for entry in read_entries(sources, text, parameters, Path(output))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("in", ["a.JPG", "b.png", "sub/c.webp"]),
        ("in/", ["a.JPG", "b.png", "sub/c.webp"]),
        ("in/*", ["a.JPG", "b.png"]),
        ("in/**/*.webp", ["sub/c.webp"]),
        ("in/sub/c.webp", ["c.webp"]),
        ("*/sub/*", ["in/sub/c.webp"]),
    ],
)
def test_folders_patterns_and_pictures(tree: Path, source: str, expected: list[str]) -> None:
    assert targets(source) == expected


def test_results_within_the_source_are_no_pictures_of_it(tree: Path) -> None:
    assert "out/e.png" in targets("in", output="elsewhere")


@pytest.mark.parametrize("source", ["nothing", "in/*.psd", "in/notes.txt", "in/.hidden/*"])
def test_sources_without_pictures(tree: Path, source: str) -> None:
    if source == "in/.hidden/*":  # named, it is meant
        assert targets(source) == ["d.png"]
        return
    (tree / "in" / "notes.txt").rename(tree / "in" / "notes.psd")
    with pytest.raises(DataError):
        targets(source)


ROWS: list[dict[str, Any]] = [
    {"image": "in/b.png"},
    {"image": "in/b.png", "instruction": "make it darker", "output": "x/y.jpg", "seed": 5, "steps": 3},
    {"image": "in/a.JPG", "mask": "mask.png", "guidance_interval": [0.0, 0.5], "guidance_scale": 2.5},
]


def test_a_table_of_json_lines(tree: Path) -> None:
    (tree / "rows.jsonl").write_text("\n\n".join(map(json.dumps, ROWS)) + "\n")
    plain, own, masked = read_entries(["rows.jsonl"], BLUE, {"seed": 1, "steps": 9}, Path("out"))
    assert (plain.instruction, plain.options.seed, plain.options.steps) == (BLUE, 1, 9)
    assert plain.path.read_bytes() == SCENE.read_bytes()
    assert (own.instruction, own.options.seed, own.options.steps) == ("make it darker", 5, 3)
    assert (own.target, plain.target) == (Path("x/y.jpg"), Path("b.png"))
    assert masked.mask == Path("mask.png")
    assert (masked.options.guidance_interval, masked.options.guidance_scale) == ((0.0, 0.5), 2.5)


def test_the_same_table_as_csv(tree: Path) -> None:
    header = "image,instruction,output,seed,steps,mask,guidance_interval,guidance_scale,negative_prompt\n"
    lines = ["in/b.png,,,,,,,,", 'in/b.png,"make it darker",x/y.jpg,5,3,,,,7', "in/a.JPG,,,,,mask.png,0.0 0.5,2.5,"]
    (tree / "rows.csv").write_text(header + "\n".join(lines), encoding="utf-8-sig")
    (tree / "rows.jsonl").write_text("\n".join(map(json.dumps, [ROWS[0], ROWS[1] | {"negative_prompt": "7"}, ROWS[2]])))
    ours, theirs = ([*read_entries([name], BLUE, {"seed": 1}, Path("out"))] for name in ("rows.csv", "rows.jsonl"))
    assert ours == theirs


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": BLUE}, "it has no image"),
        ({"image": ""}, "it has no image"),
        ({"image": "in/b.png", "stepz": 3}, "'stepz' is unknown"),
        ({"image": "in/b.png", "steps": 0}, "steps is 0"),
        ({"image": "in/b.png", "seed": "one"}, "seed is 'one', which is not a whole number"),
        ({"image": "in/b.png", "seed": 1.5}, "seed is 1.5, which is not a whole number"),
        ({"image": "in/b.png", "steps": True}, "steps is True, which is not a whole number"),
        ({"image": "in/b.png", "guidance_interval": [0.5]}, "guidance_interval is (0.5,)"),
        ({"image": "in/b.png", "negative_prompt": 7}, "negative_prompt is 7"),
        ({"image": "in/b.png", "output": "../x.png"}, "leaves the output folder"),
        ({"image": "in/b.png", "output": "/x.png"}, "leaves the output folder"),
        ({"image": "in/b.png", "instruction": 3}, "it has no instruction"),
        ([1], "is not a JSON object"),
        ("x", "is not a JSON object"),
    ],
)
def test_a_row_that_cannot_be_used(tree: Path, row: Any, message: str) -> None:
    (tree / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(PixrtError) as caught:
        targets("rows.jsonl")
    assert message in str(caught.value)
    assert "row 2 of rows.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["image,steps\nin/b.png\n", "image,steps\nin/b.png,3,4\n", 'image\n"in/b', "{", "image\n"]
)
def test_a_table_that_is_none(tree: Path, text: str) -> None:
    (tree / "rows.csv").write_text(text)
    (tree / "rows.jsonl").write_text(text)
    for name in ("rows.csv", "rows.jsonl"):
        with pytest.raises(DataError):
            targets(name)


def test_without_an_instruction(tree: Path) -> None:
    (tree / "rows.jsonl").write_text(json.dumps(ROWS[1]))
    assert targets("rows.jsonl", text=None) == ["x/y.jpg"]
    with pytest.raises(DataError, match="there is no instruction"):
        targets("in", text=None)
