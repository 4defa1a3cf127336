"""`pixrt eval photo`: its figures for edit functions whose quality is known, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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
    options = ["--edits", "2", "--size", "70", "--steps", "2", "--json", str(figures), "--sheet", str(sheet)]
    outcome = CliRunner().invoke(app, ["eval", "photo", "shapes", *options, "--kind", "fog"])
    assert outcome.exit_code == 0, outcome.output
    facts = json.loads(figures.read_text())
    assert (facts["edits"], facts["size"], facts["kind"]) == (2, 70, "fog")
    assert facts["overall"]["accuracy"]["count"] == 2
    assert 10 < facts["reconstruction_psnr_db"]["mean"] < 60
    assert sheet.stat().st_size > 1000


def test_what_an_autoencoder_keeps_is_what_the_runtime_decodes() -> None:
    """The bundle's encoder and decoder run by hand: the latents' scale cancels."""
    ort = pytest.importorskip("onnxruntime")
    from pixrt.bundles.store import BUILT_IN
    from pixrt.options.session import SessionOptions
    from pixrt_export.evaluation.reconstruction import reconstruct

    picture = np.asarray(Image.open(Path(__file__).parents[2] / "examples" / "scene.png").convert("RGB"))[:64, :64]
    data = picture.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
    for name in ("vae_encoder", "vae_decoder"):
        network = ort.InferenceSession(BUILT_IN / "shapes" / f"{name}.onnx")
        (put,) = network.get_inputs()
        (data,) = network.run(None, {put.name: data.astype(np.float16 if "float16" in put.type else np.float32)})
    expected = np.clip((data[0].astype(np.float32).transpose(1, 2, 0) + 1) * 127.5, 0, 255)
    (made,) = reconstruct("shapes", SessionOptions(backend="ort-cpu"), [picture])
    assert np.abs(made - expected).max() < 2
