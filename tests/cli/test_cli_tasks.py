"""The commands of the other tasks as a user meets them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exported import Exports
from loras import ATTENTION, lora, write
from pixrt.bundles.store import open_bundle
from pixrt.options.ladder import preset_values
from shapes import BLUE, SCENE, Run, files


@pytest.fixture(autouse=True)
def mask(tmp_path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """`mask.png`: the left half may change."""
    half = np.zeros((64, 64), bool)
    half[:, :32] = True
    Image.fromarray(half).save(tmp_path / "mask.png")
    return half


def read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_an_edit_with_a_mask(run: Run, tmp_path: Path, mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
    assert run("edit", "scene.png", BLUE, "-o", "out.png", "--mask", "mask.png", "--steps", 3).code == 0
    with Image.open(SCENE) as image:
        np.testing.assert_array_equal(read(tmp_path / "out.png")[~mask], np.asarray(image.convert("RGB"))[~mask])
    refused = run("edit", "scene.png", BLUE, "-o", "mask.png", "--mask", "mask.png")
    assert (refused.code, "inputs are never overwritten" in refused.err) == (7, True)
    assert "no mask" in run("edit", "scene.png", BLUE, "-o", "x.png", "--mask-blur", 3).err


def test_text_to_image(run: Run, tmp_path: Path) -> None:
    words = ("a red circle on a green background", "a blue star")
    outcome = run("generate", *words, "-o", "drawn", "--count", 2, "--seed", 5, "--steps", 2, "--json")
    assert outcome.code == 0
    lines = {Path(line["output"]).name: line["parameters"] for line in map(json.loads, outcome.out.splitlines())}
    assert {name: (facts["instruction"], facts["seed"]) for name, facts in lines.items()} == {
        f"{number}.png": (words[number // 2], 5 + number % 2) for number in range(4)
    }
    assert {facts["task"] for facts in lines.values()} == {"generate"}
    repeated = run("generate", "--from", "drawn/3.png", "-o", "again.png")
    assert repeated.code == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "drawn" / "3.png").read_bytes()
    other = run("generate", words[1], "--from", "drawn/0.png", "-o", "other.png", "--json")
    assert json.loads(other.out)["parameters"]["instruction"] == words[1]
    counted = run("generate", words[1], "-o", "counted", "--count", 2, "--steps", 1, "--json")  # no seed: two in a row
    first, second = (json.loads(line)["parameters"]["seed"] for line in counted.out.splitlines())
    assert abs(first - second) == 1
    assert run("generate", words[0]).code == 2
    assert run("generate", words[0], "-o", "wide.png", "--width", 96, "--steps", 1).out.startswith("wide.png  96 x 64")
    mistake = run("edit", "scene.png", "--from", "again.png", "-o", "x.png")
    assert (mistake.code, "was made by generate, not by edit" in mistake.err) == (3, True)
    assert run("generate", "-o", "x.png").code == 2


def test_a_style(run: Run, tmp_path: Path) -> None:
    with Image.open(SCENE) as image:
        image.convert("RGB").rotate(90).save(tmp_path / "style.png")
    words = ["style", "scene.png", "style.png", "-o", "out.png", "--steps", 3, "--style-interval", 0, 1]
    assert run(*words, "--instruction", "make it darker", "--seed", 2).code == 0
    facts = json.loads(run("inspect", "out.png", "--json").out)["parameters"]
    assert (facts["instruction"], facts["style_interval"], facts["task"]) == ("make it darker", [0.0, 1.0], "style")
    assert run("style", "scene.png", "style.png", "--from", "out.png", "-o", "again.png").code == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    changed = run("style", "scene.png", "style.png", "--from", "out.png", "-o", "o.png", "--instruction", "x", "--json")
    assert json.loads(changed.out)["parameters"]["instruction"] == "x"  # what is said now comes first
    assert len(facts["style_sha256"]) == 16
    assert run("style", "scene.png", "-o", "x.png").code == 2
    assert run("style", "scene.png", "style.png", "-o", "style.png").code == 7


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["edit", "text-to-image"])
def test_begun_with_a_picture(run: Run, exports: Exports, tmp_path: Path, kind: str) -> None:
    bundle = exports.bundle("text_to_image", "fp32") if kind == "text-to-image" else "shapes"
    common = ["-b", bundle, "--steps", 4, "--seed", 1]
    assert run("img2img", "scene.png", "a star", "-o", "a.png", "--strength", 0.5, *common).code == 0
    assert run("inpaint", "scene.png", "a star", "-o", "b.png", "--mask", "mask.png", *common).code == 0
    assert run("inpaint", "scene.png", "--from", "b.png", "-o", "c.png", "--mask", "mask.png", "-b", bundle).code == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    assert "b.png" in files(tmp_path)
    without = run("inpaint", "scene.png", "a star", "-o", "d.png", *common)
    assert (without.code, "there is no mask, and inpaint takes one" in without.err) == (2, True)


@pytest.mark.torch
def test_tasks_that_the_bundle_cannot_do(run: Run, exports: Exports, tmp_path: Path) -> None:
    before, bundle = files(tmp_path), exports.bundle("inpainting", "fp32")
    for words in (["img2img", "scene.png", "x"], ["edit", "scene.png", "x"]):
        outcome = run(*words, "-o", "out.png", "-b", bundle)
        assert outcome.code == 2
        assert "input channels" in outcome.err
    assert files(tmp_path) == before


def test_presets(run: Run) -> None:
    outcome = run("edit", "scene.png", BLUE, "-o", "a.png", "--preset", "fast", "--dry-run", "--json")
    facts = json.loads(outcome.out)
    fast = preset_values("fast", open_bundle("shapes", verify=False).manifest.defaults, {"branch_interval"})
    assert facts["network_rows"] <= 60 / 2.5
    assert {name: facts["parameters"][name] for name in fast} == fast
    outcome = run("edit", "scene.png", BLUE, "-o", "a.png", "--preset", "turbo", "--dry-run", "--json")
    assert json.loads(outcome.out)["network_rows"] <= 60 / 6
    outcome = run("edit", "scene.png", BLUE, "-o", "a.png", "--preset", "quality", "--steps", 30, "--dry-run", "--json")
    assert json.loads(outcome.out)["network_calls"] == 30  # what is said comes first
    assert run("edit", "scene.png", BLUE, "-o", "a.png", "--preset", "fast", "--steps", 2).code == 0
    words = ["edit", "scene.png", "--from", "a.png", "-o", "b.png", "--preset", "quality", "--dry-run", "--json"]
    assert json.loads(run(*words).out)["network_calls"] == 50  # not what the earlier result's steps were
    refused = run("edit", "scene.png", BLUE, "-o", "c.png", "--preset", "lcm")
    assert (refused.code, "has no LoRA" in refused.err) == (2, True)
    assert run("edit", "scene.png", BLUE, "-o", "a.png", "--preset", "slow").code == 2


def test_lcm_runs_two_branches_four_times(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "lcm.safetensors", lora(ATTENTION[:2]))
    outcome = run("edit", "scene.png", BLUE, "-o", "a.png", "--preset", "lcm", "--lora", "lcm.safetensors", "--json")
    facts = json.loads(outcome.out)
    assert facts["network_rows"] == 8
    set_by_it = {"scheduler": "lcm", "steps": 4, "guidance_scale": 1.5, "image_guidance_scale": 1.0, "preset": "lcm"}
    assert {name: facts["parameters"][name] for name in set_by_it} == set_by_it
