"""Tables as spreadsheets and programs write them, and what of a gallery is not read."""

import json
from pathlib import Path
from typing import Any

import pytest

from pixrt.apps.entries import read_entries
from pixrt.errors import DataError
from pixrt.pictures.formats import writable_name
from shapes import BLUE, SCENE, Run

ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "instruction": "make it darker", "steps": 20, "guidance_scale": 7.5},
    {"image": "b.png", "instruction": "red, green; blue"},
]


def rows(folder: Path, name: str, content: str | bytes) -> list[dict[str, Any]]:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [
        {
            "image": entry.name,
            "instruction": entry.instruction,
            **({"steps": entry.options.steps} if entry.options.steps is not None else {}),
            **({"guidance_scale": entry.options.guidance_scale} if entry.options.guidance_scale is not None else {}),
        }
        for entry in read_entries([str(folder / name)], BLUE, {}, folder / "out")
    ]


PLAIN = 'image,instruction,steps,guidance_scale\na.png,make it darker,20,7.5\nb.png,"red, green; blue",,\n'
SEMICOLONS = 'Image;Instruction;Steps;Guidance Scale\r\na.png;make it darker;20;7,5\r\nb.png;"red, green; blue";;\r\n'
TABS = "IMAGE\t Instruction \tsteps\tguidance-scale\na.png\tmake it darker\t20\t7.5\nb.png\tred, green; blue\t\t\n"
TABLES = {
    "commas": PLAIN,
    "semicolons and decimal commas": SEMICOLONS,
    "tabs": TABS,
    "a mark": b"\xef\xbb\xbf" + SEMICOLONS.encode(),
    "UTF-16": b"\xff\xfe" + TABS.encode("utf-16-le"),
    "UTF-16, the other way": b"\xfe\xff" + TABS.encode("utf-16-be"),
    "a hint": "sep=;\r\n" + SEMICOLONS,
    "blank rows": ";;;\n\n" + SEMICOLONS.replace("b.png", ";;;\r\n  ; ;;\r\nb.png") + ";;;\n;;;\n",
    "blank columns": SEMICOLONS.replace("\r\n", ";;\r\n"),
    "whole numbers with a point": PLAIN.replace(",20,", ",20.0,"),
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES.keys())
def test_every_kind_of_csv(tmp_path: Path, content: str | bytes) -> None:
    assert rows(tmp_path, "rows.csv", content) == ROWS
    assert rows(tmp_path, "rows.tsv", content) == ROWS


def test_nulls_and_whole_floats_of_json(tmp_path: Path) -> None:
    """As programs write a column with gaps in it."""
    lines = [
        {**ROWS[0], "steps": 20.0, "mask": None, "seed": None, "output": None},
        {**ROWS[1], "steps": None, "guidance_scale": None, "negative_prompt": None},
        {"image": "c.png", "instruction": None},
    ]
    found = rows(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, lines)))
    assert found == [*ROWS, {"image": "c.png", "instruction": BLUE}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image|steps\na.png|3\n", "found were 'image|steps'"),
        ("picture;text\na.png;x\n", "found were 'picture', 'text'"),
        ("picture,text\na.png,x\n", "found were 'picture', 'text'"),
        ("image,steps,Steps\na.png,1,2\n", "two columns 'steps'"),
        ("image,,steps\na.png,what is this,2\n", "row 2"),
        ("image,steps\na.png,2,3\n", "row 2"),
        ("image,steps\n\n\na.png,20.5\n", "row 4 of"),
        ("", "no header"),
        ("\n\n;;\n", "no header"),
        (b"image\n\xff\xfe\n", "not CSV in UTF-8"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        rows(tmp_path, "rows.csv", content)
    assert message in str(caught.value)


def targets(*sources: str, passed: list[Path] | None = None) -> list[str]:
    entries = read_entries(sources, BLUE, {}, Path("out"), on_passed=(passed if passed is not None else []).append)
    return [entry.target.as_posix() for entry in entries]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "in [1]/a.png",
        "in [1]/sub [x]/b.png",
        "in [1]/raw.CR2",
        "in [1]/p.psd",
        "in [1]/notes.txt",
        "1/c.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(SCENE.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in [1]/*.png", ["a.png"]),
        ("in [1]/**/*.png", ["a.png", "sub [x]/b.png"]),
        ("in [1]/sub [x]/*", ["b.png"]),
        ("in [[]1]/*.png", ["in [1]/a.png"]),
        ("[1]/*.png", ["1/c.png"]),  # no folder is called that: a pattern
    ],
)
def test_brackets_in_names_of_folders(tree: Path, pattern: str, expected: list[str]) -> None:
    assert targets(pattern) == expected
    if pattern.startswith("in [1]"):
        assert targets(str(tree / pattern)) == expected


def test_what_is_not_read_is_counted_and_named(tree: Path, run: Run) -> None:
    passed: list[Path] = []
    assert targets("in [1]", passed=passed) == ["a.png", "sub [x]/b.png"]
    assert [path.name for path in passed] == ["p.psd", "raw.CR2"]
    outcome = run("batch", "in [1]", BLUE, "-o", "out", "--backend", "null", "--steps", 1)
    assert outcome.code == 0
    assert "note: 2 pictures of formats that are not read are left out: p.psd, raw.CR2" in outcome.err
    with pytest.raises(DataError, match=r"no picture that is read, only 1 such as p\.psd"):
        targets("in [1]/*.psd")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b.png", "a.b.png"),
        ("a.b.JPG", "a.b.JPG"),
        ("a.b.heic", "a.b.png"),
        ("a.b.psd", "a.b.png"),
        ("a.b", "a.b.png"),
        ("IMG_2024.01.02", "IMG_2024.01.02.png"),
        ("sub.d/a", "sub.d/a.png"),
        (".png", ".png.png"),
    ],
)
def test_names_keep_their_dots(name: str, expected: str) -> None:
    assert writable_name(Path(name)) == Path(expected)
