"""Against Hugging Face `datasets`: what it saves is read, and what pixrt draws it reads, pixel for pixel."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixrt.errors import DataError, PictureError
from pixrt_export.data.check import check_pairs
from pixrt_export.data.folders import open_pairs
from pixrt_export.data.options import SetOptions
from pixrt_export.data.report import Fault
from pixrt_export.data.rows import Captions
from pixrt_export.data.writing import write_pairs
from pixrt_export.world.pairs import WorldPairs
from stored_data import picture, samples

datasets: Any = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def table(names: tuple[str, str, str] = ("input_image", "edit_prompt", "edited_image"), **columns: Any) -> Any:
    """Three samples as a data set, with these names of its columns."""
    source, text, target = names
    made = samples()
    cells = {
        source: [Image.fromarray(sample.source) for sample in made],
        text: [sample.instruction for sample in made],
        target: [Image.fromarray(sample.target) for sample in made],
    }
    features = {source: datasets.Image(), text: datasets.Value("string"), target: datasets.Image()}
    features |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(cells | columns, features=datasets.Features(features))


@pytest.mark.parametrize("source", ["input_image", "original_image"])
def test_a_saved_set(source: str, tmp_path: Path) -> None:
    prompts = {"original_prompt": ["a", "b", None], "edited_prompt": ["c", "d", "e"]}
    table((source, "edit_prompt", "edited_image"), **prompts).save_to_disk(tmp_path / "set")
    pairs = open_pairs(tmp_path / "set")
    assert len(pairs) == 3
    for index, sample in enumerate(samples()):
        pair = pairs.load(index, 64)
        assert (pair.instruction, pairs.where(index)) == (sample.instruction, f"row {index + 1}")
        np.testing.assert_array_equal(pair.source, sample.source)
        np.testing.assert_array_equal(pair.target, sample.target)
    assert pairs.captions(1) == Captions("b", "d")
    assert pairs.captions(2) is None
    assert check_pairs(tmp_path / "set", size=64).fatal == 0


@pytest.mark.parametrize("place", ["set", "set/data"])
def test_parquet_as_the_hub_has_it(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In shards; the run of a set goes on after the library's copy of it was deleted, and not with another set."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder, whole = tmp_path / place, table(("original_image", "edit_prompt", "edited_image"))
    folder.mkdir(parents=True)
    for index in range(3):
        whole.shard(3, index).to_parquet(folder / f"train-{index:05}-of-00003.parquet")
    pairs = open_pairs(tmp_path / "set")
    assert len(pairs) == 3
    for index, sample in enumerate(samples()):
        pair = pairs.load(index, 64)
        assert pair.instruction == sample.instruction
        np.testing.assert_array_equal(pair.source, sample.source)
        np.testing.assert_array_equal(pair.target, sample.target)
    first = pairs.fingerprint()
    shutil.rmtree(tmp_path / "cache")
    assert open_pairs(tmp_path / "set").fingerprint() == first
    whole.shard(3, 0).to_parquet(folder / "train-00002-of-00003.parquet")
    changed = open_pairs(tmp_path / "set")
    assert changed.fingerprint() != first
    assert changed.instruction(2) == samples()[0].instruction
    whole.to_parquet(folder / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="splits test, train"):
        open_pairs(tmp_path / "set")


def test_broken_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "it.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be opened"):
        open_pairs(tmp_path)


def test_pictures_given_as_files_travel_in_the_set(tmp_path: Path) -> None:
    """With their EXIF orientation, which `datasets` itself does not always apply."""
    exif = Image.Exif()
    exif[0x0112] = 3
    upside_down = Image.fromarray(picture(1)).transpose(Image.Transpose.ROTATE_180)
    upside_down.save(tmp_path / "a.png", exif=exif)
    features = datasets.Features({"edit_prompt": datasets.Value("string"), "edited_image": datasets.Image()})
    made = {"edit_prompt": ["x"], "edited_image": [str(tmp_path / "a.png")]}
    datasets.Dataset.from_dict(made, features=features).save_to_disk(tmp_path / "set")
    (tmp_path / "a.png").unlink()
    pair = open_pairs(tmp_path / "set").load(0, 64)
    assert pair.source is None
    np.testing.assert_array_equal(pair.target, picture(1))


def test_splits(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table()}).save_to_disk(tmp_path / "one")
    assert len(open_pairs(tmp_path / "one")) == 3
    assert open_pairs(tmp_path / "one").fingerprint() == open_pairs(tmp_path / "one/train").fingerprint()
    datasets.DatasetDict({"train": table(), "test": table()}).save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match="splits train, test"):
        open_pairs(tmp_path / "two")
    assert len(open_pairs(tmp_path / "two/test")) == 3


def test_the_fingerprint_names_the_content(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "a")
    first = open_pairs(tmp_path / "a").fingerprint()
    assert first == open_pairs(tmp_path / "a").fingerprint()
    table(original_prompt=["1", "2", "3"], edited_prompt=["4", "5", "6"]).save_to_disk(tmp_path / "b")
    assert open_pairs(tmp_path / "b").fingerprint() != first


def test_sets_with_other_columns(tmp_path: Path) -> None:
    table(("before", "edit_prompt", "after")).save_to_disk(tmp_path / "names")
    with pytest.raises(DataError, match=r"columns after, before, edit_prompt.* needs input_image"):
        open_pairs(tmp_path / "names")
    datasets.Dataset.from_dict({"edit_prompt": ["x"], "edited_image": ["a.png"]}).save_to_disk(tmp_path / "texts")
    with pytest.raises(DataError, match="holds no pictures"):
        open_pairs(tmp_path / "texts")
    table().remove_columns("edit_prompt").add_column("edit_prompt", [1, 2, 3]).save_to_disk(tmp_path / "numbers")
    with pytest.raises(DataError, match="holds no texts"):
        open_pairs(tmp_path / "numbers")


def test_cells_that_are_broken_or_empty(tmp_path: Path) -> None:
    png = _png(0)
    good = {"bytes": png, "path": None}
    rows = [
        {"input_image": good, "edit_prompt": "x", "edited_image": {"bytes": png[:200], "path": "a.png"}},
        {"input_image": good, "edit_prompt": "x", "edited_image": None},
        {"input_image": None, "edit_prompt": None, "edited_image": good},
    ]
    features = table().features
    columns = {name: [row[name] for row in rows] for name in features}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "set")
    pairs = open_pairs(tmp_path / "set")
    with pytest.raises(PictureError, match="row 1: the picture cannot be decoded"):
        pairs.load(0, 64)
    with pytest.raises(PictureError, match="row 2: edited_image is empty"):
        pairs.load(1, 64)
    assert pairs.load(2, 64).source is None
    report = check_pairs(tmp_path / "set", size=64)
    assert [str(finding) for finding in report.findings[Fault.MISSING]] == ["row 2: edited_image is empty"]
    (unreadable,) = report.findings[Fault.UNREADABLE]
    assert str(unreadable).startswith("row 1: the target: cannot be decoded")
    assert [finding.where for finding in report.findings[Fault.MISPAIRED]] == ["row 3"]


def test_a_file_that_is_only_named_is_not_opened(tmp_path: Path) -> None:
    """Saving embeds the pictures; a set in which a path stands instead may name any file of this machine."""
    Image.fromarray(picture(0)).save(tmp_path / "private.png")
    cell = {"bytes": None, "path": str(tmp_path / "private.png")}
    plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"edit_prompt": datasets.Value("string"), "edited_image": plain})
    made = datasets.Dataset.from_dict({"edit_prompt": ["x"], "edited_image": [cell]}, features=features)
    made.save_to_disk(tmp_path / "set")
    info = json.loads((tmp_path / "set/dataset_info.json").read_text())
    info["features"]["edited_image"] = {"_type": "Image"}
    (tmp_path / "set/dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(PictureError, match=r"row 1: edited_image is not in the set but named, as .*private\.png"):
        open_pairs(tmp_path / "set").load(0, 64)


def test_a_broken_set(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be opened"):
        open_pairs(tmp_path)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'pixrt\[hf-datasets\]'"):
        open_pairs(tmp_path)


def test_what_is_drawn_is_an_imagefolder(tmp_path: Path) -> None:
    world = WorldPairs(5, seed=2, kind="border")
    write_pairs(world, tmp_path / "drawn", size=48)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "drawn"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert set(loaded.column_names) == {"input_image", "edit_prompt", "edited_image"}
    loaded.save_to_disk(tmp_path / "saved")
    saved, drawn = open_pairs(tmp_path / "saved"), open_pairs(tmp_path / "drawn")
    assert len(loaded) == len(saved) == len(drawn) == 5
    for index in range(5):
        expected, row = world.load(index, 48), loaded[index]
        for pair in (drawn.load(index, 48), saved.load(index, 48)):
            assert pair.instruction == row["edit_prompt"] == expected.instruction
            np.testing.assert_array_equal(pair.source, np.asarray(row["input_image"]))
            np.testing.assert_array_equal(pair.target, np.asarray(row["edited_image"]))
        np.testing.assert_array_equal(np.asarray(row["input_image"]), expected.source)
        np.testing.assert_array_equal(np.asarray(row["edited_image"]), expected.target)


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def test_columns_that_are_said(tmp_path: Path) -> None:
    table(("before", "ask", "after")).save_to_disk(tmp_path / "set")
    pairs = open_pairs(tmp_path / "set", SetOptions(text_column="ask", source_column="before", target_column="after"))
    for index, sample in enumerate(samples()):
        pair = pairs.load(index, 64)
        assert pair.instruction == sample.instruction
        np.testing.assert_array_equal(pair.source, sample.source)
        np.testing.assert_array_equal(pair.target, sample.target)
    for options in (SetOptions(), SetOptions(text_column="ask", source_column="x", target_column="after")):
        with pytest.raises(DataError, match="has the columns after, ask, before"):
            open_pairs(tmp_path / "set", options)
    with pytest.raises(DataError, match=r"skip_missing is given, and .* holds its pictures itself"):
        open_pairs(tmp_path / "set", SetOptions(skip_missing=True))
