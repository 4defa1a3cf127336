"""The README's commands and its Python are run as they stand; what the pages list is what there is."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from pixrt.cli.app import app
from pixrt.options.choices import SCHEDULERS
from pixrt.tasks.tasks import TASKS

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/tensorrt.md", "docs/jetson.md", "Dockerfile")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@pytest.mark.slow
def test_the_commands(checkout: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (block,) = blocks("bash")
    for command in block.strip().splitlines():
        assert command.startswith("pixrt ")
        done = subprocess.run(["bash", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    made = {path.name for path in checkout.iterdir()}
    assert {"blue.png", "inverted", "same-edit.png", "darker.jpg", "star.png", "drawn.png", "green.png"} <= made
    assert (checkout / "gallery" / "scene.png").is_file()


@pytest.mark.slow
def test_the_python(checkout: Path) -> None:
    printed = ""
    for block in blocks("python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert "stopped by on_step after 5 of 20 steps" in printed
    made = {path.name for path in checkout.iterdir()}
    assert {"blue.png", "0.webp", "1.webp", "preview.png", "darker-2.png"} <= made


def test_every_parameter_and_scheduler_is_listed() -> None:
    for options in TASKS:
        for field in dataclasses.fields(options):
            assert re.search(rf"^\| .*`{field.name}`.* \|", README, re.MULTILINE), field.name
    for name in SCHEDULERS:
        assert f"`{name}`" in README


@pytest.mark.parametrize("page", PAGES[:-1])
def test_every_file_it_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / page).parent.joinpath(name).exists(), name
    for name in re.findall(r"`(?:python )?((?:benchmarks|examples|tests)/[\w./]+)", text):
        assert (ROOT / name).exists(), name


def commands(page: str) -> list[list[str]]:
    """The words after `pixrt`, of lines in shell blocks and of the Dockerfile's comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "Dockerfile":
        text = "\n".join(re.findall(r"^#   +(.*)", text, re.MULTILINE))
    else:
        text = "\n".join(re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(("pixrt ", "docker run "))]
    return [words[words.index("pixrt") + 1 :] for words in found]


@pytest.mark.parametrize("page", PAGES)
def test_the_options_of_every_command_exist(page: str) -> None:
    found = commands(page)
    assert found
    for found_words in found:
        command, words = typer.main.get_command(app), found_words
        while hasattr(command, "resolve_command"):
            _, command, words = command.resolve_command(command.context_class(command), words)
        command.make_context("pixrt", words)
