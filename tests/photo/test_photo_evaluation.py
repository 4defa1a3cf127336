"""`pixrt eval photo`: its figures for edit functions whose quality is known, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("scipy")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

from pixrt.cli.app import app
from pixrt.errors import OptionError
from pixrt_export.evaluation.accuracy import PSNR_CAP_DB
from pixrt_export.evaluation.photo import PhotoCase, photo_accuracy, photo_cases, photo_sheet
from pixrt_export.photo.instructions import ALL_KINDS

SIZE = 48


@pytest.fixture(scope="module")
def cases() -> list[PhotoCase]:
    return photo_cases(len(ALL_KINDS), SIZE)


def test_every_kind_takes_its_turn(cases: list[PhotoCase]) -> None:
    assert [case.kind for case in cases] == list(ALL_KINDS)
    assert {case.kind for case in photo_cases(3, SIZE, kind="fog")} == {"fog"}
    with pytest.raises(OptionError, match="no kind of edit is called 'rainbow'"):
        photo_cases(1, SIZE, kind="rainbow")


def test_right_answers_are_all_right(cases: list[PhotoCase]) -> None:
    answers = {case.text: case.instruction.apply(case.source) for case in cases}
    report = photo_accuracy(lambda pictures, texts: [answers[text] for text in texts], cases, keep=1)
    assert report.accuracy.value == 1
    assert report.psnr_db.value == PSNR_CAP_DB
    assert report.worst_block.value == 0
    assert report.by_kind().keys() == set(ALL_KINDS)
    assert photo_sheet(report.verdicts).height > 160


def test_leaving_everything_as_it_is_is_all_wrong(cases: list[PhotoCase]) -> None:
    report = photo_accuracy(lambda pictures, texts: list(pictures), cases)
    assert report.accuracy.value == 0
    assert report.mistakes == {"unedited": len(cases)}


def test_one_bad_corner_is_in_the_worst_square(cases: list[PhotoCase]) -> None:
    def edit(pictures: object, texts: object) -> list[np.ndarray]:
        spoiled = cases[0].instruction.apply(cases[0].source).copy()
        spoiled[:6, :6] = 255 - spoiled[:6, :6]
        return [spoiled]

    report = photo_accuracy(edit, cases[:1])
    assert report.accuracy.value == 1
    assert report.worst_block.value > 20


def test_the_command(tmp_path: Path) -> None:
    """The model of drawn shapes knows black and white, and no fog."""
    figures, sheet = tmp_path / "photo.json", tmp_path / "photo.png"
    options = ["--edits", "2", "--size", "64", "--steps", "2", "--json", str(figures), "--sheet", str(sheet)]
    outcome = CliRunner().invoke(app, ["eval", "photo", *options, "--kind", "fog"])
    assert outcome.exit_code == 0, outcome.output
    facts = json.loads(figures.read_text())
    assert (facts["edits"], facts["size"], facts["kind"]) == (2, 64, "fog")
    assert facts["overall"]["accuracy"]["count"] == 2
    assert sheet.stat().st_size > 1000
