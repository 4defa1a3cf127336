"""The command line as a user meets it."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixrt
from exported import Exports
from pixrt.backends.registry import LADDER
from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.cli import edit as edit_module
from shapes import BLUE, SCENE, Run, files


def test_an_edit(run: Run, tmp_path: Path) -> None:
    outcome = run("edit", "scene.png", BLUE, "-o", "out.png", "--seed", 7, "--steps", 3)
    assert outcome.code == 0
    assert outcome.out == "out.png  64 x 64  seed 7\n"
    assert "demonstration model" in outcome.err
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (64, 64)
    assert files(tmp_path) == {"scene.png", "out.png"}
    assert (tmp_path / "scene.png").read_bytes() == SCENE.read_bytes()


def test_several_pictures_into_a_folder(run: Run, tmp_path: Path) -> None:
    scene = Image.open(SCENE).convert("RGB")
    scene.save(tmp_path / "b.jpg")
    scene.resize((96, 64)).save(tmp_path / "c.webp", lossless=True)
    outcome = run("edit", "scene.png", "b.jpg", "c.webp", BLUE, "-o", "new/folder", "--steps", 2, "--json")
    assert outcome.code == 0
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert {line["output"] for line in lines} == {f"new/folder/{name}" for name in ("scene.png", "b.jpg", "c.webp")}
    assert {(line["width"], line["height"]) for line in lines} == {(64, 64), (96, 64)}
    for line in lines:
        assert line["times"]["denoise_ms"] > 0
        assert line["parameters"]["instruction"] == BLUE
        assert Path(tmp_path / line["output"]).is_file()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_from_repeats_an_edit(run: Run, tmp_path: Path, suffix: str) -> None:
    flags = ["--steps", 3, "--scheduler", "euler_ancestral", "--guidance-interval", 0, 0.7, "--negative-prompt", "冬"]
    assert run("edit", "scene.png", BLUE, "-o", f"one{suffix}", *flags).code == 0
    assert run("edit", "scene.png", "--from", f"one{suffix}", "-o", f"two{suffix}").code == 0
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    # A flag given now comes before the earlier one.
    outcome = run("edit", "scene.png", "--from", f"one{suffix}", "-o", "x.png", "--steps", 1, "--json")
    parameters = json.loads(outcome.out)["parameters"]
    assert (parameters["steps"], parameters["scheduler"]) == (1, "euler_ancestral")
    assert parameters["guidance_interval"] == [0.0, 0.7]


def test_from_another_checkpoint_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("edit", "scene.png", BLUE, "-o", "one.png", "--steps", 1).code == 0
    monkeypatch.setattr(edit_module, "read_parameters", lambda path: pixrt_parameters(tmp_path) | {"model_sha256": "0"})
    assert "another checkpoint" in run("edit", "scene.png", "--from", "one.png", "-o", "two.png", "--steps", 1).err


def test_parameters_that_are_not_known_are_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("edit", "scene.png", BLUE, "-o", "one.png", "--steps", 1, "--tile", 64).code == 0
    words = ("edit", "scene.png", "--from", "one.png", "-o", "two.png", "--overwrite")
    assert "does not know" not in run(*words).err  # of what pixrt writes, nothing
    newer = {"style_sha256": "0", "sharpness": 3, "[red]glow": {}}
    monkeypatch.setattr(edit_module, "read_parameters", lambda path: pixrt_parameters(tmp_path) | newer)
    outcome = run(*words)
    assert outcome.code == 0
    told = "that this version of pixrt does not know, and leaves out: '[red]glow', 'sharpness'"
    assert f"note: one.png has parameters {told}" in outcome.err.splitlines()
    assert "does not know" not in run(*words, "-q").err


def pixrt_parameters(folder: Path) -> dict[str, Any]:
    from pixrt.pictures.codecs import read_parameters

    return read_parameters(folder / "one.png")


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    outcome = run("edit", "scene.png", BLUE, "-o", "not/yet", "--dry-run", "--json", "--seed", 1)
    assert outcome.code == 0
    facts = json.loads(outcome.out)
    assert (facts["network_calls"], facts["network_rows"], facts["working_size"]) == (20, 60, [64, 64])
    assert files(tmp_path) == {"scene.png"}


def test_other_commands(run: Run, tmp_path: Path) -> None:
    assert run("--version").out == f"pixrt {pixrt.__version__}\n"
    for words in ([], ["--help"], ["edit", "--help"]):
        outcome = run(*words)
        assert outcome.code == 0
        assert "Usage: pixrt" in outcome.out
    assert "shapes" in run("models").out
    assert [json.loads(line)["name"] for line in run("models", "--json").out.splitlines()] == ["demo", "shapes"]
    assert "sample  float32 [batch, 8, height, width]" in run("inspect", "shapes").out
    assert json.loads(run("inspect", "shapes", "--json").out)["unet_in_channels"] == 8
    assert "holds no parameters" in run("inspect", "scene.png").out
    run("edit", "scene.png", BLUE, "-o", "out.png", "--steps", 1, "--seed", 3)
    assert json.loads(run("inspect", "out.png", "--json").out)["parameters"]["seed"] == 3


def test_doctor(run: Run) -> None:
    outcome = run("doctor")
    assert outcome.code == 0
    side = open_bundle(DEFAULT_BUNDLE, verify=False).manifest.native_resolution
    assert f"self-test: one step at {side} px on ort-cpu" in outcome.out
    assert "backend ort-cuda" in outcome.out
    assert re.search(r"NVIDIA driver +(none|runs CUDA \d)", outcome.out)
    assert re.search(
        r"drivers needed +pixrt\[cuda\]: 580 or newer \(CUDA 13\); pixrt\[cuda12\]: 525 or newer", outcome.out
    )
    openvino = r"yes, openvino \d" if find_spec("openvino") else "no, openvino is not available"
    assert re.search(f"backend openvino +{openvino}", outcome.out)
    # What is no terminal has no width: a row is a line, however long.
    row = next(line for line in outcome.out.splitlines() if "backend auto" in line)
    assert all(info.name in row for info in LADDER)


def test_doctor_as_json(run: Run) -> None:
    outcome = run("doctor", "--json")
    facts = json.loads(outcome.out)
    assert (outcome.code, facts["pixrt"], facts["test"]["backend"]) == (0, pixrt.__version__, "ort-cpu")
    assert facts["backends"]["ort-cpu"]["available"] is True
    assert facts["libraries"]["numpy"] == np.__version__
    assert facts["bundle"]["task"] == "edit"


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["text_to_image", "inpainting"])
def test_doctor_passes_on_other_bundles(run: Run, exports: Exports, kind: str) -> None:
    outcome = run("doctor", "--json", "-b", exports.bundle(kind, "fp32"))
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["test"]["model_ms"] > 0


def test_every_option_has_a_flag(run: Run) -> None:
    import dataclasses

    text = run("edit", "--help").out
    for field in dataclasses.fields(pixrt.EditOptions):
        assert f"--{field.name.replace('_', '-')}" in text


def test_names_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    name = "a :heart: [red]b\x1b[31m.png"
    (tmp_path / name).write_bytes(SCENE.read_bytes())
    outcome = run("edit", name, "x :heart: [bold]", "-o", "out", "--steps", 1, "--json")
    facts = json.loads(outcome.out)
    assert (facts["input"], facts["parameters"]["instruction"]) == (name, "x :heart: [bold]")
    assert "\x1b" not in outcome.out
    outcome = run("edit", name, "x", "-o", "out", "--steps", 1, "--overwrite")
    assert outcome.out.startswith(r"out/a :heart: [red]b\x1b[31m.png  64 x 64")


def test_truncation_is_said(run: Run) -> None:
    err = run("edit", "scene.png", "red " * 80, "-o", "o.png", "--steps", 1, "--negative-prompt", "blue " * 90).err
    assert "the last 5 tokens of the instruction" in err
    assert "the last 15 tokens of the negative prompt" in err


def test_pixels_of_a_jpeg_are_those_of_the_edit(run: Run, tmp_path: Path) -> None:
    run("edit", "scene.png", BLUE, "-o", "o.png", "--steps", 3, "--seed", 1)
    run("edit", "scene.png", BLUE, "-o", "o.jpg", "--steps", 3, "--seed", 1)
    exact, lossy = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("o.png", "o.jpg"))
    assert np.abs(exact - lossy).mean() < 2
