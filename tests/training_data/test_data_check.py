"""What `check_pairs` finds: everything that was put wrong, with its row and file, and nothing in a set that is well."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixrt.errors import DataError, OptionError
from pixrt_export.data import report as report_module
from pixrt_export.data.check import check_pairs
from pixrt_export.data.report import FATAL, MEANINGS, DataReport, Fault
from pixrt_export.data.writing import write_pairs
from pixrt_export.world.pairs import WorldPairs
from stored_data import Sample, picture, samples, truncate, write_original, write_table


def texts(report: DataReport, fault: Fault) -> list[str]:
    return [str(finding) for finding in report.findings[fault]]


def only(report: DataReport, *faults: Fault) -> bool:
    return {fault for fault, count in report.counts.items() if count} == set(faults)


def test_a_set_that_is_well(tmp_path: Path) -> None:
    write_table(tmp_path, [*samples(3), Sample("a caption", None, picture(99, 96, 64))])
    seen: list[tuple[int, int]] = []
    report = check_pairs(tmp_path, size=64, on_progress=lambda *at: seen.append(at))
    assert only(report)
    assert (report.samples, report.without_source, report.fatal) == (4, 1, 0)
    assert report.source_sizes == {(64, 64): 3}
    assert report.target_sizes == {(64, 64): 3, (96, 64): 1}
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("workers", [1, 5])
def test_findings_do_not_depend_on_the_threads(workers: int, tmp_path: Path) -> None:
    write_table(tmp_path, samples(20))
    for name in ("3a.png", "7b.png", "12a.png"):
        truncate(tmp_path / name)
    report = check_pairs(tmp_path, size=64, workers=workers)
    assert [finding.file for finding in report.findings[Fault.UNREADABLE]] == ["3a.png", "7b.png", "12a.png"]
    assert sum(report.target_sizes.values()) == 19


def test_broken_files_of_the_originals_layout(tmp_path: Path) -> None:
    write_original(tmp_path, {"one": [1, 2], "two ü": [3], "three": [4], "four": [5]})
    truncate(tmp_path / "one/1_0.jpg")
    (tmp_path / "one/2_1.jpg").unlink()
    (tmp_path / "two ü/3_1.jpg").write_bytes(b"<html>404</html>")
    (tmp_path / "three/prompt.json").unlink()
    (tmp_path / "four/5_0.jpg").unlink()
    (tmp_path / "four/5_0.jpg").mkdir()
    report = check_pairs(tmp_path, size=64)
    assert only(report, Fault.MALFORMED, Fault.MISSING, Fault.UNREADABLE)
    assert texts(report, Fault.MALFORMED) == ["seeds.json entry 3: three/prompt.json is missing"]
    assert texts(report, Fault.MISSING) == ["seeds.json entry 1: one/2_1.jpg: is not there"]
    cut, html, folder = texts(report, Fault.UNREADABLE)
    assert cut.startswith("seeds.json entry 1: one/1_0.jpg: ends before its pixels do")
    assert html == "seeds.json entry 2: two ü/3_1.jpg: is a web page, which is not read"
    assert folder == "seeds.json entry 4: four/5_0.jpg: is a folder"
    assert report.fatal == 5


def test_missing_files_of_odd_kinds(tmp_path: Path) -> None:
    write_table(tmp_path, samples(4))
    for name in ("0a.png", "1a.png", "2a.png", "3a.png"):
        (tmp_path / name).unlink()
    (tmp_path / "0a.png").symlink_to("nowhere")
    (tmp_path / "1a.png").symlink_to("1a.png")
    index = tmp_path / "metadata.jsonl"
    index.write_text(index.read_text().replace("2a.png", "0b.png/2a.png").replace("3a.png", "n" * 300))
    report = check_pairs(tmp_path, size=64)
    assert [finding.file for finding in report.findings[Fault.MISSING]] == ["0a.png", "0b.png/2a.png"]
    assert [finding.where for finding in report.findings[Fault.UNREADABLE]] == [
        "metadata.jsonl line 2",
        "metadata.jsonl line 4",
    ]


def test_pairs_that_do_not_fit(tmp_path: Path) -> None:
    shown = picture(5)
    write_table(
        tmp_path,
        [
            Sample("two shapes", picture(0, 64, 64), picture(1, 96, 64)),
            Sample("two sizes of one shape", picture(2, 64, 64), picture(3, 128, 128)),
            Sample("nothing changes", shown, shown),
            Sample(" \t", picture(6), picture(7)),
        ],
    )
    report = check_pairs(tmp_path, size=64)
    assert only(report, Fault.MISPAIRED)
    shapes, same, empty = texts(report, Fault.MISPAIRED)
    assert shapes.startswith("metadata.jsonl line 1: the source is 64 x 64 and the target 96 x 64")
    assert same == "metadata.jsonl line 3: the source is the target"
    assert empty == "metadata.jsonl line 4: the instruction is empty"


def test_warnings(tmp_path: Path) -> None:
    long = "a " * 80
    write_table(
        tmp_path,
        [
            Sample("twice"),
            Sample("once"),
            Sample("twice"),
            Sample(long, picture(4), picture(5)),
            Sample("small", picture(6, 40, 64), picture(7, 40, 64)),
            Sample("twice"),
            Sample("once", None),
        ],
    )
    # The same pixels in another file format are the same picture.
    (tmp_path / "2a.png").unlink()
    Image.fromarray(picture(0)).save(tmp_path / "2a.png", "WEBP", lossless=True)
    report = check_pairs(tmp_path, size=64)
    assert only(report, Fault.DUPLICATE, Fault.TOO_LONG, Fault.SMALL)
    assert report.fatal == 0
    assert texts(report, Fault.DUPLICATE) == [
        "metadata.jsonl line 1: again in metadata.jsonl line 3, metadata.jsonl line 6"
    ]
    assert texts(report, Fault.TOO_LONG) == [
        "metadata.jsonl line 4: the last 5 tokens do not fit the text encoder and are left out"
    ]
    assert texts(report, Fault.SMALL) == ["metadata.jsonl line 5: 40 x 64, less than 64"]


def test_the_bound_of_tokens(tmp_path: Path) -> None:
    """77 tokens with the two around the text: 75 fit, 76 do not."""
    write_table(tmp_path, [Sample("a " * 75, picture(0)), Sample("a " * 76, picture(2))])
    (finding,) = check_pairs(tmp_path, size=64).findings[Fault.TOO_LONG]
    assert (finding.where, "last 1 tokens" in finding.text) == ("metadata.jsonl line 2", True)


def test_large_groups_and_many_findings_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixrt_export.data.check.KEPT", 3)
    write_table(tmp_path, [Sample("x", picture(0, 8, 8), picture(1, 8, 8))] * 15)
    report = check_pairs(tmp_path, size=64)
    assert report.counts[Fault.SMALL] == 15
    assert len(report.findings[Fault.SMALL]) == 3
    (group,) = texts(report, Fault.DUPLICATE)
    assert group.endswith("metadata.jsonl line 11 and 4 more")
    assert report_module.KEPT == 1000


def test_the_report_as_json(tmp_path: Path) -> None:
    write_table(tmp_path, samples(2))
    (tmp_path / "1b.png").unlink()
    facts = json.loads(json.dumps(check_pairs(tmp_path, size=64).to_json()))
    assert facts["source_sizes"] == {"64x64": 2}
    assert (facts["samples"], facts["fatal"], facts["counts"]["missing"]) == (2, 1, 1)
    assert facts["findings"]["missing"] == [
        {"where": "metadata.jsonl line 2", "file": "1b.png", "text": "is not there"}
    ]
    assert facts["findings"]["too long"] == []


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        check_pairs(tmp_path)
    with pytest.raises(OptionError):
        check_pairs(tmp_path, size=0)
    with pytest.raises(OptionError):
        check_pairs(tmp_path, workers=0)
    assert set(FATAL) < set(Fault) == set(MEANINGS)


def test_a_set_of_nothing_but_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text("{}\n{}\n")
    report = check_pairs(tmp_path)
    assert (report.samples, report.counts[Fault.MALFORMED]) == (0, 2)


def test_few_pictures_are_in_memory_at_once(tmp_path: Path) -> None:
    """200 samples hold 75 MiB of pixels; NumPy's arrays are what tracemalloc sees."""
    write_pairs(WorldPairs(200), tmp_path / "set", size=256)
    all_pixels = 200 * 2 * 256 * 256 * 3
    tracemalloc.start()
    report = check_pairs(tmp_path / "set", size=256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert only(report)
    assert peak < all_pixels / 3


def test_the_world_is_well(tmp_path: Path) -> None:
    """No instruction of the world leaves its picture as it was."""
    write_pairs(WorldPairs(300, seed=9), tmp_path / "set", size=64)
    report = check_pairs(tmp_path / "set", size=64)
    assert only(report), report.findings
    assert np.prod(next(iter(report.target_sizes))) == 64 * 64
