"""A sweep: its lists, its table, and the command, which encodes text and source once."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixrt import Editor
from pixrt.apps.sweep import Axis, parse_axis, parse_seeds
from pixrt.apps.sweep_table import Measured, Strength, source_as_result, step_table, strength
from pixrt.core.engines import Engines
from pixrt.core.timing import StageTimes, Stopwatch
from pixrt.options.tasks import MAX_SEED
from pixrt.pictures.codecs import read_parameters
from pixrt.pictures.geometry import plan_geometry
from pixrt.pictures.images import from_network, load_picture, to_network
from pixrt.tasks.requests import Request
from shapes import BLUE, Run, files, pixels

NULL = ("--backend", "null", "--seed", 4)


def test_lists() -> None:
    assert parse_axis("guidance_scale", "3, 7.5,12") == Axis("guidance_scale", (3.0, 7.5, 12.0))
    assert parse_axis("steps", "10") == Axis("steps", (10,))
    assert parse_axis("scheduler", "ddim,lcm") == Axis("scheduler", ("ddim", "lcm"))
    assert parse_seeds("3", 5) == Axis("seed", (5, 6, 7))
    assert parse_seeds("9,1", None) == Axis("seed", (9, 1))
    drawn = parse_seeds("2", None).values
    assert drawn[1] == int(drawn[0]) + 1
    assert drawn != parse_seeds("2", None).values


WRONG = {
    "nothing": (["--steps", ""], "steps is ''. Give values with commas"),
    "an empty value": (["--steps", "1,,2"], "steps is '1,,2'"),
    "a word": (["--guidance-scale", "1,x"], "guidance_scale is 'x', which is not a number. It must be from 0 to"),
    "not whole": (["--steps", "1.5"], "steps is '1.5', which is not a whole number"),
    "out of range": (["--image-guidance-scale", "1,nan"], "image_guidance_scale is nan. It must be from 0 to 100"),
    "no solver": (["--scheduler", "ddim,heun"], "Choose one of ddim"),
    "twice": (["--guidance-scale", "2,1,2.0"], "guidance_scale has 2 twice"),
    "no seeds": (["--seeds", "0"], "from 1 to 4096"),
    "too many seeds": (["--seeds", "1000000000000"], "from 1 to 4096"),
    "seeds too large": (["--seeds", "2", "--seed", MAX_SEED], "is too large"),
    "both seeds": (["--seeds", "1,2", "--seed", "1"], "Give one of them"),
    "too many cells": (["--seeds", "4096", "--steps", "1,2"], "2 x 4096 = 8192 combinations. At most 4096"),
    "too many values": (["--steps", ",".join(["1"] * 5000)], "steps has 5000 values"),
    "a solver without eta": (["--scheduler", "ddim,euler", "--eta", "0.5"], "the scheduler euler has no eta"),
    "steps of a solver": (["--scheduler", "ddim,lcm", "--steps", "20,60"], "at most 50 steps"),
    "no mask": (["--mask-blur", "3"], "there is no mask"),
    "a quality": (["--quality", "90"], "No such option"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_lists(name: str, run: Run, tmp_path: Path) -> None:
    words, message = WRONG[name]
    outcome = run("sweep", "scene.png", BLUE, "-o", "out", "--backend", "null", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert files(tmp_path) == {"scene.png"}


def test_nothing_of_the_users_is_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_bytes((tmp_path / "scene.png").read_bytes())
    for words, message in (
        (("sheet.png", BLUE, "-o", "."), "sheet.png is an input"),
        (("scene.png", BLUE, "-o", "out", "--mask", "sheet.png", "--json", "scene.png"), "scene.png is an input"),
        (("scene.png", BLUE, "-o", "out.png"), "Give a folder"),
        (("scene.png", BLUE, "-o", "scene.png/x"), "scene.png"),
        (("scene.png", BLUE, "-o", "out", "--json", "no/f.json"), "no folder"),
        (("scene.png", BLUE, "-o", "out", "--json", "f.txt"), "not a .json"),
    ):
        outcome = run("sweep", *words, *NULL)
        assert (outcome.code, outcome.out) == (7, "")
        assert message in outcome.err
        assert files(tmp_path) == {"scene.png", "sheet.png"}


def test_the_table_over_steps() -> None:
    black, grey = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)
    assert strength(grey, black) == strength(black, grey) == Strength(200, 200)
    black[0, 0] = 255
    assert strength(black, np.zeros_like(black)) == Strength(63.75, 127.5)
    measured = [Measured("ddim", steps, Strength(steps, 3 * steps), steps, 2) for steps in (50, 10, 10)]
    measured += [Measured("ddim", 10, Strength(40, 90), 4, 8), Measured("lcm", 4, Strength(1, 1), 1, 1)]
    rows = step_table(measured)
    assert [(row.scheduler, row.steps, row.pictures) for row in rows] == [
        ("ddim", 10, 3),
        ("ddim", 50, 1),
        ("lcm", 4, 1),
    ]
    assert (rows[0].mean_absolute, rows[0].rms) == (20, math.sqrt((30**2 + 30**2 + 90**2) / 3))
    assert (rows[0].denoise_ms, rows[0].decode_ms, rows[0].picture_ms) == (8, 4, 12)


def test_a_sweep(run: Run, editor: Editor, scene: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 step counts x 2 x 2 scales x 2 seeds in one pool, with each other; each cell is what it is alone."""
    calls: list[str] = []
    original = Engines.get
    lists = ["--guidance-scale", "1.5,4", "--image-guidance-scale", "1,1.5", "--steps", "1,2", "--seeds", "3,7"]
    words = ["sweep", "scene.png", BLUE, *lists, "-o", "new/out", "--json", "new/out/f.json", "--backend", "ort-cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(Engines, "get", lambda *given: (calls.append(str(given[1])), original(*given))[1])
        outcome = run(*words, "--threads", 2)
    assert outcome.code == 0
    assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (2, 1)
    assert (calls.count("unet"), calls.count("vae_decoder")) == (1, 16 + 4)  # four cells, for one step, warm up
    folder = tmp_path / "new" / "out"
    facts = json.loads((folder / "f.json").read_text())
    assert files(folder) == {"sheet.png", "f.json", *(cell["file"] for cell in facts["cells"])}
    assert len(facts["cells"]) == 16
    for cell in facts["cells"][::5]:
        parameters = read_parameters(folder / cell["file"])
        options = {name: cell[name] for name in ("guidance_scale", "image_guidance_scale", "steps", "seed")}
        assert {name: parameters[name] for name in options} == options
        alone = editor.edit(scene, BLUE, **options)
        with Image.open(folder / cell["file"]) as image:
            np.testing.assert_array_equal(pixels(image), pixels(alone.image))
            assert cell["mean_absolute"] == pytest.approx(np.abs(pixels(image) - pixels(scene)).mean())
    one, two = facts["steps"]
    assert (one["steps"], one["pictures"], two["steps"], two["pictures"]) == (1, 8, 2, 8)
    assert 0 < one["picture_ms"] == one["denoise_ms"] + one["decode_ms"]
    assert two["denoise_ms"] > one["denoise_ms"]
    assert facts["once"]["text_ms"] > 0
    table, path = outcome.out.splitlines()[:3], outcome.out.splitlines()[3]
    assert [line.split()[:3] for line in table[1:]] == [["dpmpp_2m", "1", "8"], ["dpmpp_2m", "2", "8"]]
    assert path == "new/out/sheet.png"
    sheet = read_parameters(folder / "sheet.png")
    assert (sheet["task"], sheet["swept"]["steps"], sheet["instruction"]) == ("sweep", [1, 2], BLUE)
    assert "was made by sweep" in run("edit", "scene.png", "--from", "new/out/sheet.png", "-o", "o.png").err


def test_a_dry_run_says_what_would_be_done(run: Run, tmp_path: Path) -> None:
    lists = ["--steps", "10,20", "--scheduler", "ddim,pndm", "--seeds", 5]
    outcome = run("sweep", "scene.png", BLUE, *lists, "-o", "out", "--dry-run", "--json", "f.json")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith(
        f"20 cells: {5 * 3 * (10 + 20 + 11 + 21)} branch evaluations, and a step to warm up; sheet "
    )
    assert f"pndm, 10 steps: 5 cells, {5 * 3 * 11} branch evaluations" in lines
    assert files(tmp_path) == {"scene.png"}


def test_masks_and_transparency(run: Run, tmp_path: Path) -> None:
    """With a mask only what it selects is another. Strength is of what is seen: over white."""
    noise = Image.effect_noise((90, 60), 80)
    picture = noise.convert("RGBA")
    picture.putalpha(noise)
    picture.save(tmp_path / "clear.png")
    noise.convert("RGB").save(tmp_path / "noise.png")
    mask = Image.new("L", noise.size)
    mask.paste(255, (0, 0, 30, 20))
    mask.save(tmp_path / "mask.png")
    masked = ("--mask", "mask.png")
    for name, words in (("noise.png", (*masked, "--mask-padding", "0")), ("clear.png", masked), ("clear.png", ())):
        to = ("-o", "out", "--json", "f.json", "--overwrite")
        outcome = run("sweep", name, BLUE, "--seeds", "2", *to, *NULL, *words)
        assert outcome.code == 0, outcome.err
        cell = json.loads((tmp_path / "f.json").read_text())["cells"][1]
        edited, source = (load_picture(tmp_path / each).rgb.astype(int) for each in (f"out/{cell['file']}", name))
        assert cell["mean_absolute"] == pytest.approx(np.abs(edited - source).mean())
        assert (edited[20:] == source[20:]).all() == bool(words)


@pytest.mark.parametrize("mode", ["exact", "fit", "floor8"])
def test_an_edit_is_measured_against_the_source_as_it_comes_out(mode: Any) -> None:
    """To the networks and back without them: where nothing is edited, nothing is measured but rounding."""
    smooth = Image.effect_noise((10, 7), 60).resize((190, 130), Image.Resampling.BICUBIC)
    picture = load_picture(smooth)
    geometry = plan_geometry(190, 130, mode, resolution=190, multiple=8)
    untouched = from_network(to_network(picture, geometry), geometry)
    source = source_as_result(picture, geometry, masked=False)
    assert source.shape[1::-1] == untouched.size == geometry.output
    assert strength(np.asarray(untouched), source).mean_absolute < 0.5
    assert source_as_result(picture, geometry, masked=True) is picture.rgb


def test_steps_share_their_time_and_the_picture_is_decoded_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[type] = []
    original = Request.prepare

    def counting(self: Request, *given: Any) -> Any:
        sources.append(type(self.job.image))
        return original(self, *given)

    monkeypatch.setattr(Request, "prepare", counting)
    monkeypatch.setattr(
        Stopwatch, "times", lambda self: StageTimes(denoise_ms=120, denoise_share_ms=40, decode_ms=15, text_ms=7)
    )
    assert run("sweep", "scene.png", BLUE, "--seeds", "6", "-o", "out", "--json", "f.json", *NULL).code == 0
    assert sources == [Image.Image] * (4 + 6)  # a warm-up, then all
    facts = json.loads((tmp_path / "f.json").read_text())
    (row,) = facts["steps"]
    assert (row["denoise_ms"], row["decode_ms"], row["picture_ms"]) == pytest.approx((40, 15, 55))
    assert facts["once"]["text_ms"] == 4 * 7
