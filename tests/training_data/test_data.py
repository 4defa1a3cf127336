"""Training sets on disk: every layout is read as it was written, and what does not fit is refused with its row."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixrt.errors import DataError, OptionError, OutputError, PictureError
from pixrt.tasks.requests import MAX_TEXT_BYTES
from pixrt_export.data.folders import open_pairs, read_pairs
from pixrt_export.data.options import SetOptions
from pixrt_export.data.pairs import Pair, PairSet
from pixrt_export.data.rows import Captions
from pixrt_export.data.writing import write_pairs
from pixrt_export.world.pairs import WorldPairs
from stored_data import Sample, picture, samples, truncate, write_original, write_rows, write_table


def test_the_originals_layout(tmp_path: Path) -> None:
    write_original(tmp_path, {"0000001": [4, 11], "odd näme ❄ #1": [7]})
    pairs = open_pairs(tmp_path)
    assert len(pairs) == 3
    assert [pairs.instruction(i) for i in range(3)] == ["edit 0000001", "edit 0000001", "edit odd näme ❄ #1"]
    assert pairs.captions(2) == Captions("before odd näme ❄ #1", "after odd näme ❄ #1")
    for index, stem in enumerate(["0000001/4", "0000001/11", "odd näme ❄ #1/7"]):
        pair = pairs.load(index, 64)
        assert pair.source is not None
        for side, pixels in ((0, pair.source), (1, pair.target)):
            with Image.open(tmp_path / f"{stem}_{side}.jpg") as image:
                np.testing.assert_array_equal(pixels, np.asarray(image))


def test_a_table(tmp_path: Path) -> None:
    written = [*samples(2), Sample("a caption", None, picture(9))]
    write_table(tmp_path, written)
    pairs = open_pairs(str(tmp_path))
    assert len(pairs) == 3
    for index, sample in enumerate(written):
        assert_same(pairs.load(index, 64), Pair(sample.instruction, sample.source, sample.target))
        assert pairs.captions(index) is None
    assert pairs.load(2, 64).source is None


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("input_image", "edited_image", "edit_prompt"),
        ("input_image_file_name", "edited_image_file_name", "edit_prompt"),
        ("original_image", "edited_image", "edit_prompt"),
        ("file_name", "edited_image", "edit_prompt"),
        ("input_image", "file_name", "text"),
        (None, "file_name", "text"),
    ],
)
def test_the_columns_of_a_table(source: str | None, target: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    for name, seed in (("deep/er/a ü.png", 0), ("b.png", 1)):
        Image.fromarray(picture(seed)).save(tmp_path / name)
    row = {target: "b.png", text: "make it so", "original_prompt": "x", "edited_prompt": "y", "other": [1]}
    write_rows(tmp_path, [row | ({source: "deep/er/a ü.png"} if source else {})])
    pairs = open_pairs(tmp_path)
    assert_same(pairs.load(0, 64), Pair("make it so", picture(0) if source else None, picture(1)))
    assert pairs.captions(0) == Captions("x", "y")


def test_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    write_table(tmp_path, samples(2))
    index = tmp_path / "metadata.jsonl"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes().replace(b"\n", b"\r\n\r\n"))
    pairs = open_pairs(tmp_path)
    assert (len(pairs), pairs.where(1)) == (2, "metadata.jsonl line 3")


def test_a_table_of_commas(tmp_path: Path) -> None:
    """As the `imagefolder` loader reads it too: the same samples as out of lines of JSON."""
    write_table(tmp_path, samples(2))
    expected, index = open_pairs(tmp_path), tmp_path / "metadata.jsonl"
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    rows[1] |= {"edit_prompt": 'a "quoted", text\nof two lines'}
    index.unlink()
    with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        table.writeheader()
        table.writerows(rows)
    pairs = open_pairs(tmp_path)
    assert (len(pairs), pairs.where(0), pairs.where(1)) == (2, "metadata.csv line 2", "metadata.csv line 4")
    assert (pairs.instruction(0), pairs.instruction(1)) == (expected.instruction(0), rows[1]["edit_prompt"])
    assert [pairs.pictures(index) for index in range(2)] == [expected.pictures(index) for index in range(2)]
    with (tmp_path / "metadata.csv").open("a") as file:
        file.write("one cell\n")
    with pytest.raises(DataError, match=r"metadata\.csv line 5: has more or fewer cells"):
        open_pairs(tmp_path)
    (tmp_path / "metadata.csv").write_text('edit_prompt,edited_image\n"x')
    with pytest.raises(DataError, match="unexpected end of data"):
        open_pairs(tmp_path)


GOOD = {"input_image": "0a.png", "edit_prompt": "x", "edited_image": "0b.png"}
BAD_LINES: dict[str, tuple[object, str]] = {
    "not an object": ([1], "is not an object"),
    "no text": ({"edited_image": "0b.png"}, "has no edit_prompt"),
    "null text": (GOOD | {"edit_prompt": None}, "has no edit_prompt"),
    "number for a text": (GOOD | {"edit_prompt": 3}, "edit_prompt is int"),
    "half a surrogate": (GOOD | {"edit_prompt": "\ud800"}, "not valid Unicode"),
    "no target": ({"edit_prompt": "x", "input_image": "0a.png"}, "has no edited_image"),
    "number for a path": (GOOD | {"edited_image": 1}, "edited_image is int"),
    "empty path": (GOOD | {"input_image": ""}, "no path"),
    "nul": (GOOD | {"input_image": "a\0b"}, "no path"),
    "absolute": (GOOD | {"input_image": "/etc/passwd"}, "relative to the folder"),
    "above": (GOOD | {"edited_image": "../0b.png"}, "leaves the folder"),
    "above in the middle": (GOOD | {"edited_image": "x/../../0b.png"}, "leaves the folder"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_lines_that_are_no_samples(name: str, tmp_path: Path) -> None:
    row, words = BAD_LINES[name]
    write_table(tmp_path, samples(1))
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"metadata.jsonl line 2: .*{words}"):
        open_pairs(tmp_path)
    lenient = read_pairs(tmp_path)
    assert (len(lenient), len(lenient.bad_rows)) == (1, 1)


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe\xfd", b"[" * 100_000, b"nonsense"])
def test_lines_that_are_not_json(line: bytes, tmp_path: Path) -> None:
    write_table(tmp_path, samples(1))
    with (tmp_path / "metadata.jsonl").open("ab") as file:
        file.write(line + b"\n" + line)
    with pytest.raises(DataError, match="line 2: is not JSON, and 1 more rows"):
        open_pairs(tmp_path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (["a"], "is not"),
        (["a", []], "is not"),
        ("a", "is not"),
        (["../a", [1]], "leaves the folder"),
        (["/a", [1]], "relative to the folder"),
        ([3, [1]], "the name is int"),
        (["a", [1.5]], "a seed is 1.5"),
        (["a", ["../../1"]], "leaves the folder"),
        (["nowhere", [1]], "nowhere/prompt.json is missing"),
        (["list", [1]], 'has no "edit"'),
        (["number", [1]], '"edit" is int'),
        (["broken", [1]], "is not JSON"),
    ],
)
def test_entries_that_are_no_samples(entry: object, words: str, tmp_path: Path) -> None:
    write_original(tmp_path, {"a": [1]})
    for name, text in (("list", "[]"), ("number", '{"edit": 5}'), ("broken", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompt.json").write_text(text)
    (tmp_path / "seeds.json").write_text(json.dumps([["a", [1]], entry]))
    with pytest.raises(DataError, match=r"seeds\.json entry 2: ") as caught:
        open_pairs(tmp_path)
    assert words in str(caught.value)


def test_folders_that_are_no_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"seeds\.json .*metadata\.jsonl .*state\.json"):
        open_pairs(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_pairs(tmp_path / "nowhere")
    with pytest.raises(DataError):
        open_pairs("n" * 5000)
    with pytest.raises(DataError):
        open_pairs("a\0b")
    (tmp_path / "metadata.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no samples"):
        open_pairs(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        open_pairs(tmp_path / "metadata.jsonl")
    (tmp_path / "seeds.json").write_text("{}")
    with pytest.raises(DataError, match="is not a list"):
        open_pairs(tmp_path)


def test_a_picture_that_cannot_be_read_names_its_row(tmp_path: Path) -> None:
    write_table(tmp_path, samples(2))
    truncate(tmp_path / "1a.png")
    (tmp_path / "0b.png").unlink()
    pairs = open_pairs(tmp_path)
    with pytest.raises(PictureError, match=r"line 2: .*1a\.png cannot be decoded"):
        pairs.load(1, 64)
    with pytest.raises(PictureError, match=r"line 1: there is no file .*0b\.png"):
        pairs.load(0, 64)


def test_a_link_may_leave_the_folder(tmp_path: Path) -> None:
    write_table(tmp_path / "set", samples(1))
    (tmp_path / "set/0a.png").rename(tmp_path / "elsewhere.png")
    (tmp_path / "set/0a.png").symlink_to("../elsewhere.png")
    np.testing.assert_array_equal(open_pairs(tmp_path / "set").load(0, 64).source, samples(1)[0].source)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    """A phone's picture: landscape in the file, portrait by its EXIF, and as large as its upright target."""
    write_table(tmp_path, [Sample("x", picture(0, 64, 96), picture(0, 64, 96))])
    lying = Image.fromarray(picture(0, 64, 96)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying.save(tmp_path / "0a.png", exif=exif)
    pair = open_pairs(tmp_path).load(0, 64)
    np.testing.assert_array_equal(pair.source, pair.target)


def test_the_fingerprint_names_the_content(tmp_path: Path) -> None:
    write_table(tmp_path / "a", samples(2))
    first = open_pairs(tmp_path / "a").fingerprint()
    assert first == open_pairs(tmp_path / "a").fingerprint()
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_pairs(tmp_path / "b").fingerprint() == first
    picture_file, index = tmp_path / "b/0a.png", tmp_path / "b/metadata.jsonl"
    status = picture_file.stat()
    os.utime(picture_file, ns=(0, status.st_mtime_ns + 1))
    other = open_pairs(tmp_path / "b").fingerprint()
    os.utime(picture_file, ns=(0, status.st_mtime_ns))
    assert other != first == open_pairs(tmp_path / "b").fingerprint()
    index.write_text(index.read_text().replace("number 1", "number 2"))
    assert open_pairs(tmp_path / "b").fingerprint() not in (first, other)
    picture_file.unlink()
    assert len(open_pairs(tmp_path / "b").fingerprint()) == 64


def test_a_set_that_is_written_is_read_again(tmp_path: Path) -> None:
    world = WorldPairs(6, seed=3, captions=0.5)
    seen: list[tuple[int, int]] = []
    write_pairs(world, tmp_path / "new/set", size=32, on_progress=lambda *at: seen.append(at))
    assert seen == [(i, 6) for i in range(1, 7)]
    pairs = open_pairs(tmp_path / "new/set")
    assert {pairs.load(i, 32).source is None for i in range(6)} == {True, False}
    for index in range(6):
        assert_same(pairs.load(index, 32), world.load(index, 32))
    with pytest.raises(OutputError, match="exists already"):
        write_pairs(world, tmp_path / "new/set", size=32)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["set"]


def test_a_set_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    class Failing(WorldPairs):
        def load(self, index: int, size: int) -> Pair:
            if index == 2:
                raise PictureError("a test", remedy="None")
            return super().load(index, size)

    with pytest.raises(PictureError):
        write_pairs(Failing(5), tmp_path / "set", size=16)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file/set", "file", "link", "n" * 300):
        with pytest.raises(OutputError):
            write_pairs(WorldPairs(1), tmp_path / name, size=16)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}


def assert_same(got: Pair, expected: Pair) -> None:
    assert got.instruction == expected.instruction
    np.testing.assert_array_equal(got.target, expected.target)
    assert (got.source is None) == (expected.source is None)
    if got.source is not None and expected.source is not None:
        np.testing.assert_array_equal(got.source, expected.source)


def test_readers_are_pair_sets(tmp_path: Path) -> None:
    write_table(tmp_path, samples(1))
    pairs: PairSet = open_pairs(tmp_path)
    assert len(pairs) == 1


def test_texts_have_the_cap_of_a_request(tmp_path: Path) -> None:
    """What could not be asked for is not trained on."""
    write_table(tmp_path, samples(1))
    index, longest = tmp_path / "metadata.jsonl", MAX_TEXT_BYTES - len('""""')
    before = index.read_text()
    index.write_text(before + json.dumps(GOOD | {"edit_prompt": "x" * longest}) + "\n")
    assert len(open_pairs(tmp_path)) == 2
    index.write_text(before + json.dumps(GOOD | {"edit_prompt": "x" * (longest + 1)}) + "\n")
    with pytest.raises(DataError, match=f"line 2: edit_prompt has {MAX_TEXT_BYTES + 1} bytes, more than"):
        open_pairs(tmp_path)


def test_lines_have_a_length_and_numbers_digits(tmp_path: Path) -> None:
    write_table(tmp_path, samples(1))
    index = tmp_path / "metadata.jsonl"
    before = index.read_text()
    index.write_text(before + json.dumps(GOOD)[:-1] + ', "other": ' + "1" * 400 + "}\n")
    with pytest.raises(DataError, match="line 2: holds a number of 400 characters"):
        open_pairs(tmp_path)
    index.write_text(before + json.dumps(GOOD | {"edit_prompt": "x" * (2 << 20)}))
    with pytest.raises(DataError, match=r"line 2 of .* has more than"):
        open_pairs(tmp_path)


COLUMNS = SetOptions(text_column="ask", source_column="before", target_column="after")


def with_columns(folder: Path) -> None:
    """The table with names that nobody would find."""
    index = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    named = [
        {"ask": row["edit_prompt"], "before": row["input_image"], "after": row["edited_image"], "edit_prompt": "no"}
        for row in rows
    ]
    index.write_text("".join(json.dumps(row) + "\n" for row in named))


def test_columns_that_are_said(tmp_path: Path) -> None:
    """They come before the usual names, which a table may have too."""
    write_table(tmp_path, samples(2))
    expected = open_pairs(tmp_path)
    instructions = [expected.instruction(index) for index in range(2)]
    pictures = [expected.pictures(index) for index in range(2)]
    with_columns(tmp_path)
    pairs = open_pairs(tmp_path, COLUMNS)
    assert [pairs.instruction(index) for index in range(2)] == instructions
    assert [pairs.pictures(index) for index in range(2)] == pictures
    with pytest.raises(DataError, match=r"metadata\.jsonl line 1: has no other"):
        open_pairs(tmp_path, SetOptions(text_column="ask", source_column="other", target_column="after"))
    with pytest.raises(DataError, match="has no edited_image"):
        open_pairs(tmp_path, SetOptions(text_column="ask", source_column="before"))


def test_missing_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    write_table(tmp_path, samples(3))
    whole = open_pairs(tmp_path)
    gone = whole.pictures(1)[0]
    assert isinstance(gone, Path)
    gone.unlink()
    with pytest.warns(UserWarning, match="1 of 3 samples of .* are left out: pictures are missing"):
        pairs = open_pairs(tmp_path, SetOptions(skip_missing=True))
    assert (len(pairs), pairs.skipped) == (2, 1)
    assert [pairs.instruction(index) for index in range(2)] == [whole.instruction(0), whole.instruction(2)]
    assert len(open_pairs(tmp_path)) == 3  # and training fails where it comes to it
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.warns(UserWarning, match="3 of 3"), pytest.raises(DataError, match="holds no samples"):
        open_pairs(tmp_path, SetOptions(skip_missing=True))


def test_the_originals_layout_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "seeds.json").write_text("[]")
    with pytest.raises(DataError, match="has no column 'ask'"):
        open_pairs(tmp_path, COLUMNS)


def test_what_is_about_a_folder_needs_one() -> None:
    from pixrt_export.training.plan import DataOptions

    for given, said in (({"text_column": "ask"}, "the column 'ask'"), ({"skip_missing": True}, "skip_missing")):
        with pytest.raises(OptionError, match=f"{said} is given, and no folder"):
            DataOptions(**given)  # type: ignore[arg-type]
        DataOptions(folder="pairs", **given)  # type: ignore[arg-type]
