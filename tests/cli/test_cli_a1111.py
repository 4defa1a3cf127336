"""Pictures that AUTOMATIC1111 wrote, on the command line."""

import json
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shapes import BLUE, Run

TEXT = f"{BLUE}\nSteps: 3, Sampler: DDIM, CFG scale: 2, Image CFG scale: 1.2, Seed: 7, Size: 64x64, Clip skip: 2"


def write(path: Path, text: str) -> None:
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


def test_from_repeats_its_edit(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "theirs.png", TEXT)
    outcome = run("edit", "scene.png", "--from", "theirs.png", "-o", "one.png", "--json")
    assert outcome.code == 0
    parameters = json.loads(outcome.out)["parameters"]
    assert (parameters["instruction"], parameters["steps"], parameters["scheduler"]) == (BLUE, 3, "ddim")
    flags = ["--steps", 3, "--scheduler", "ddim", "--guidance-scale", 2, "--image-guidance-scale", 1.2, "--seed", 7]
    assert run("edit", "scene.png", BLUE, "-o", "two.png", "--resolution", 64, *flags).code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_what_has_no_meaning_here_is_told(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "theirs.png", TEXT)
    outcome = run("edit", "scene.png", "--from", "theirs.png", "-o", "one.png", "--dry-run")
    assert "does not know, and leaves out: 'Clip skip'" in outcome.err
    write(tmp_path / "drawn.png", TEXT.replace(", Image CFG scale: 1.2", ""))
    outcome = run("edit", "scene.png", "--from", "drawn.png", "-o", "one.png")
    assert outcome.code == 3
    assert "drawn.png was made by generate, not by edit" in outcome.err


def test_inspect_prints_it(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "theirs.png", TEXT)
    found = json.loads(run("inspect", "theirs.png", "--json").out)["parameters"]
    assert (found["instruction"], found["a1111"]) == (BLUE, {"Clip skip": "2"})


def test_what_is_read_as_words_is_told(run: Run) -> None:
    outcome = run("edit", "scene.png", f"{BLUE} <lora:ink:0.8> BREAK", "-o", "one.png", "--steps", 1)
    assert outcome.code == 0
    assert "<lora:ink:0.8> in the instruction is read as words: give a LoRA with --lora" in outcome.err
    assert "BREAK in the instruction is read as a word: --long-prompts takes a text of any length" in outcome.err
    assert "is read as" not in run("edit", "scene.png", f"{BLUE} breaking <news>", "-o", "two.png").err
