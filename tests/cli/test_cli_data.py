"""`pixrt data` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixrt_export.data.folders import open_pairs
from pixrt_export.world.pairs import WorldPairs
from shapes import Run, files
from stored_data import Sample, samples, truncate, write_table


def test_draw_then_check(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "draw", "-o", "border", "--count", 5, "--kind", "border", "--seed", 3, "--size", 32)
    assert (outcome.code, outcome.out, outcome.err) == (0, "border  5 samples of 32 x 32\n", "")
    world, pairs = WorldPairs(5, seed=3, kind="border"), open_pairs(tmp_path / "border")
    for index in range(5):
        np.testing.assert_array_equal(pairs.load(index, 32).target, world.load(index, 32).target)
    outcome = run("data", "check", "border", "--size", 32, "--json", "report.json")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["samples", "5"] in [line[:2] for line in lines]
    assert ["source", "size", "5", "32", "x", "32"] in lines
    assert json.loads((tmp_path / "report.json").read_text())["samples"] == 5
    (tmp_path / "report.json").write_text("mine")
    assert run("data", "check", "border", "--size", 32, "--json", "report.json").code == 7
    assert (tmp_path / "report.json").read_text() == "mine"
    assert run("data", "check", "border", "--size", 32, "--json", "report.json", "--overwrite").code == 0
    assert files(tmp_path) == {"scene.png", "border", "report.json"}


def test_held_out_samples(run: Run, tmp_path: Path) -> None:
    assert run("data", "draw", "-o", "x", "--count", 3, "--split", "held-out").code == 0
    world = WorldPairs(3, split="held-out")
    assert [open_pairs(tmp_path / "x").instruction(i) for i in range(3)] == [world.instruction(i) for i in range(3)]


def test_a_broken_set_ends_with_code_9(run: Run, tmp_path: Path) -> None:
    write_table(tmp_path / "set", samples(30))
    for i in range(25):
        truncate(tmp_path / f"set/{i}a.png")
    (tmp_path / "set/27b.png").unlink()
    outcome = run("data", "check", "set", "--size", 64, "--json", "report.json")
    assert outcome.code == 9
    assert outcome.err.startswith("error: set has 26 findings that training would fail at. ")
    assert len(outcome.err.splitlines()) == 1
    assert outcome.out.count("cannot be decoded: ") == 20
    assert "  and 5 more\n" in outcome.out
    assert "  metadata.jsonl line 28: 27b.png: is not there\n" in outcome.out
    facts = json.loads((tmp_path / "report.json").read_text())
    assert (facts["counts"]["unreadable"], len(facts["findings"]["unreadable"])) == (25, 25)


def test_warnings_end_with_code_0(run: Run, tmp_path: Path) -> None:
    write_table(tmp_path / "set", [Sample("x"), Sample("x"), Sample("word " * 100)])
    outcome = run("data", "check", "set")
    assert (outcome.code, outcome.err) == (0, "")
    for words in ("duplicate (a warning)", "too long (a warning)", "small (a warning)"):
        assert words in outcome.out


def test_a_file_name_does_not_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    write_table(tmp_path / "set", samples(1))
    index = tmp_path / "set/metadata.jsonl"
    index.write_text(index.read_text().replace("0a.png", "\\u001b[31mred[bold]"))
    outcome = run("data", "check", "set", "--size", 64)
    assert outcome.code == 9
    assert "\\x1b[31mred[bold]: is not there" in outcome.out
    assert "\x1b" not in outcome.out


def test_the_sheet(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "sheet", "-o", "sheet.png", "--count", 6, "--seed", 1)
    assert outcome.code == 0
    with Image.open(tmp_path / "sheet.png") as image:
        assert outcome.out == f"sheet.png  {image.width} x {image.height}  6 samples\n"
    first = (tmp_path / "sheet.png").read_bytes()
    assert run("data", "sheet", "-o", "sheet.png", "--count", 6, "--seed", 1, "--overwrite").code == 0
    assert (tmp_path / "sheet.png").read_bytes() == first
    assert run("data", "sheet", "-o", "other.png", "--count", 6, "--split", "held-out", "--kind", "border").code == 0
    assert (tmp_path / "other.png").read_bytes() != first


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "Missing command"),
        (["check"], 2, "Missing argument"),
        (["check", "nowhere"], 9, "nowhere does not exist"),
        (["check", "scene.png"], 9, "is a file"),
        (["check", "."], 9, "metadata.jsonl"),
        (["check", ".", "--size", 0], 2, "--size"),
        (["draw", "-o", "x"], 2, "--count"),
        (["draw", "-o", "x", "--count", 0], 2, "--count"),
        (["draw", "-o", "x", "--count", 1, "--kind", "winter"], 2, "Choose one of recolor"),
        (["draw", "-o", "x", "--count", 1, "--split", "test"], 2, "Choose one of train, held-out"),
        (["draw", "-o", "x", "--count", 1, "--seed", -1], 2, "--seed"),
        (["draw", "-o", "x", "--count", 1, "--size", 4], 2, "--size"),
        (["draw", "-o", ".", "--count", 1], 7, "exists already"),
        (["draw", "-o", "scene.png/x", "--count", 1], 7, "cannot write"),
        (["sheet", "-o", "x.jpg"], 7, "not a .png"),
        (["sheet", "-o", "scene.png/x.png"], 7, "cannot write"),
        (["sheet", "-o", "scene.png"], 7, "exists already"),
        (["sheet", "-o", "x.png", "--count", 0], 2, "--count"),
    ],
)
def test_wrong_commands(words: list[object], code: int, message: str, run: Run, tmp_path: Path) -> None:
    outcome = run("data", *words)
    assert (outcome.code, outcome.out) == (code, "")
    (error,) = outcome.err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert files(tmp_path) == {"scene.png"}


def test_no_pytorch_is_loaded(tmp_path: Path) -> None:
    """The subcommands work where PyTorch is missing."""
    import subprocess
    import sys

    code = """
import sys
for name in ("torch", "diffusers", "transformers", "datasets"): sys.modules[name] = None
from pixrt.cli import main
sys.argv = ["pixrt", "data", *{words}]
main()
"""
    for words in (["draw", "-o", "set", "--count", "2"], ["check", "set"], ["sheet", "-o", "sheet.png"]):
        subprocess.run([sys.executable, "-c", code.replace("{words}", str(words))], cwd=tmp_path, check=True)
    assert files(tmp_path) == {"set", "sheet.png"}
