"""What the command line says of the instructions that a bundle was taught."""

import json
from pathlib import Path

import pytest

from loras import ATTENTION, lora, write
from pixrt import Editor
from shapes import BLUE, QUICK, SCENE, Run

FAST = ("--steps", 1, "--seed", 1)


def test_inspect_lists_them(run: Run) -> None:
    outcome = run("inspect", "shapes")
    assert "instructions, by kind" in outcome.out
    assert "remove the circle; delete the circle; erase the circle" in outcome.out
    assert (
        "turn the circle into a star" in json.loads(run("inspect", "shapes", "--json").out)["instructions"]["replace"]
    )


def test_an_instruction_that_was_not_taught_gets_a_note(run: Run) -> None:
    said = run("edit", "scene.png", "add a castle", "-o", "castle.png", *FAST, "--json")
    note = "note: pixrt-shapes was not taught 'add a castle': `pixrt inspect BUNDLE` lists the instructions it knows"
    assert note in said.err.splitlines()
    assert json.loads(said.out)["unknown_instruction"]
    assert "not taught" not in run("edit", "scene.png", "add a castle", "-o", "quiet.png", *FAST, "-q").err
    known = run("edit", "scene.png", BLUE, "-o", "blue.png", *FAST, "--json")
    assert "not taught" not in known.err
    assert not json.loads(known.out)["unknown_instruction"]


def test_a_gallery_gets_one_note(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "image,instruction,output\nscene.png,add a castle,a.png\nscene.png,make it winter,b.png\n"
    )
    said = run("batch", "rows.csv", "-o", "out", *FAST)
    assert "was not taught 'add a castle' and 1 more:" in said.err
    assert said.err.count("not taught") == 1


@pytest.mark.parametrize("words", [("generate", "a castle"), ("style", "scene.png", "scene.png")])
def test_other_tasks(run: Run, words: tuple[str, ...]) -> None:
    assert ("not taught" in run(*words, "-o", "it.png", *FAST).err) == (words[0] == "generate")


def test_a_lora_may_have_taught_it(tmp_path: Path) -> None:
    file = write(tmp_path / "castle.safetensors", lora(ATTENTION))
    with Editor("shapes", backend="ort-cpu") as editor:
        assert editor.edit(SCENE, "add a castle", **QUICK).unknown_instruction
        editor.set_loras([file])
        assert not editor.edit(SCENE, "add a castle", **QUICK).unknown_instruction
