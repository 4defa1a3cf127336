"""`pixrt eval` as a user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shapes import Run, files
from tiny_clip import make_clip

QUICK = ("--steps", 1, "--threads", 2)


def width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_world(run: Run, tmp_path: Path) -> None:
    outcome = run("eval", "world", "--scenes", 9, *QUICK, "--json", "world.json", "--sheet", "world.png", "--seed", 3)
    assert outcome.code == 0, outcome.err
    facts = read(tmp_path / "world.json")
    assert facts["model"] == "pixrt-shapes"
    assert (facts["seed"], facts["scenes"], facts["parameters"]["steps"]) == (3, 9, 1)
    assert facts["parameters"]["guidance_scale"] == 2
    assert len(facts["kinds"]) == 9
    assert facts["overall"]["accuracy"]["count"] == 9
    for kind in (*facts["kinds"], "all"):
        assert kind in outcome.out
    assert width(tmp_path / "world.png") > 500
    assert files(tmp_path) == {"scene.png", "world.json", "world.png"}
    again = run("eval", "world", "--scenes", 9, *QUICK, "--json", "again.json", "--seed", 3, "--max-batch", 2)
    assert again.out == outcome.out
    assert read(tmp_path / "again.json") == facts


def test_one_kind(run: Run, tmp_path: Path) -> None:
    outcome = run("eval", "world", "shapes", "--scenes", 2, "--kind", "border", *QUICK, "--json", "border.json")
    assert outcome.code == 0, outcome.err
    assert list(read(tmp_path / "border.json")["kinds"]) == ["border"]


def test_the_gate(run: Run, tmp_path: Path) -> None:
    words = ("eval", "world", "--scenes", 2, *QUICK, "--kind", "border")
    outcome = run(*words, "--min-accuracy", 0.9, "--min-psnr", 40, "--json", "kept.json")
    assert outcome.code == 1
    assert "error: not good enough: the edit accuracy is 0.0 % (0 of 2), below 90 %; the PSNR is" in outcome.err
    assert "border" in outcome.out  # the figures are printed all the same
    assert (tmp_path / "kept.json").exists()
    again = run(*words, "--min-accuracy", 0, "--min-kind-accuracy", 0, "--min-psnr", 1, "--json", "kept.json")
    assert (again.code, "pass --overwrite" in again.err) == (7, True)
    assert run(*words, "--min-accuracy", 0, "--json", "kept.json", "--overwrite").code == 0


def test_a_sweep(run: Run, tmp_path: Path) -> None:
    lists = ("--sweep", "--sweep-image", "1,1.5", "--sweep-text", "3")
    outcome = run("eval", "world", "--scenes", 2, *QUICK, *lists, "--json", "sweep.json", "--plot", "sweep.png")
    assert outcome.code == 0, outcome.err
    points = read(tmp_path / "sweep.json")["points"]
    assert [(point["guidance_scale"], point["image_guidance_scale"]) for point in points] == [(3, 1), (3, 1.5)]
    assert "1 - RMSE" in outcome.out
    assert width(tmp_path / "sweep.png") > 800


def test_text_to_image(run: Run, tmp_path: Path) -> None:
    words = ("eval", "text-to-image", "--samples", 3, *QUICK)
    outcome = run(*words, "--json", "t.json", "--sheet", "t.png", "--guidance-scale", 2)
    assert outcome.code == 0, outcome.err
    facts = read(tmp_path / "t.json")
    assert facts["present"]["all"]["count"] == len(facts["samples"]) == 3
    assert facts["parameters"]["guidance_scale"] == 2
    assert width(tmp_path / "t.png") > 100
    assert run(*words, "--min-accuracy", 1).code == 1


@pytest.mark.torch
def test_clip(run: Run, scene: Image.Image, tmp_path: Path) -> None:
    make_clip(tmp_path / "tiny-clip")
    row = {"image": "scene.png", "instruction": "make it darker", "input_caption": "day", "output_caption": "night"}
    scene.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "other.png")
    rows = [row, {**row, "image": "other.png"}, row]
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("eval", "clip", "shapes", "--data", "edits.jsonl", "--clip", "tiny-clip", *QUICK, "--sweep-image", "1,1.5")
    outcome = run(*words, "--preprocessing", "correct", "--json", "clip.json", "--plot", "clip.png", "--samples", 2)
    assert outcome.code == 0, outcome.err
    facts = read(tmp_path / "clip.json")
    assert (facts["preprocessing"], facts["samples"], facts["clip"]) == ("correct", 2, "tiny-clip")
    assert facts["parameters"]["guidance_scale"] == 7.5
    assert [point["image_guidance_scale"] for point in facts["points"]] == [1, 1.5]
    assert all(-1 <= point["direction_similarity"]["mean"] <= 1 for point in facts["points"])
    assert "preprocessing correct" in outcome.out
    assert width(tmp_path / "clip.png") > 500
    original = run(*words, "--preprocessing", "original", "--json", "original.json", "--samples", 2)
    assert original.code == 0
    assert read(tmp_path / "original.json")["points"] != facts["points"]
    # Which of the two it was must be said.
    assert run(*words).code == 2


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["world", "--kind", "bigger"], 2, "Choose one of recolor"),
        (["world", "--sweep-image", "1,x"], 2, "--sweep-image is '1,x'"),
        (["world", "--sweep", "--sheet", "a.png"], 2, "a sweep has neither"),
        (["world", "--sweep", "--min-accuracy", "0.5"], 2, "a sweep has neither"),
        (["world", "--sweep", "--guidance-scale", "3"], 2, "two lists"),
        (["world", "--plot", "a.png"], 2, "Add --sweep"),
        (["world", "--min-accuracy", "90"], 2, "from 0 to 1"),
        (["world", "--sheet", "a.jpg"], 7, "not a .png"),
        (["world", "--json", "missing/a.json"], 7, "missing is no folder"),
        (["world", "--json", "scene.png"], 7, "scene.png exists already"),
        (["world", "--sheet", "scene.png"], 7, "scene.png exists already"),
        (["world", "--sweep", "--plot", "scene.png"], 7, "scene.png exists already"),
        (["text-to-image", "--sheet", "scene.png"], 7, "scene.png exists already"),
        (["photo", "--sheet", "scene.png"], 7, "scene.png exists already"),
        (["world", "no-such-bundle"], 4, "no-such-bundle"),
        (["world", "--resolution", "3"], 2, "resolution is 3"),
        (["world", "--scenes", "0"], 2, "scenes"),
        (["text-to-image", "--image-guidance-scale", "2"], 2, "No such option: --image-guidance-scale"),
        pytest.param(
            ["clip", "shapes", "--data", "x", "--clip", "y", "--preprocessing", "correct"],
            9,
            "x does not exist",
            marks=pytest.mark.torch,
        ),
    ],
)
def test_mistakes_are_one_line(words: list[str], code: int, part: str, run: Run) -> None:
    outcome = run("eval", *words)
    assert outcome.code == code, outcome.err
    assert part in outcome.err
    assert outcome.err.count("\n") == 1
