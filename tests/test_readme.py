"""The commands and the Python of README and docs are run as they stand; what the pages list is what there is."""

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

import pixrt
from pixrt.cli.app import app
from pixrt.options.choices import SCHEDULERS
from pixrt.tasks.registry import TASKS

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
DOCKERFILES = ("Dockerfile", "Dockerfile.cpu")
# Pages whose shell blocks and comments hold pixrt's commands.
WITH_COMMANDS = {
    "Dockerfile",
    "Dockerfile.cpu",
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "backends",
            "benchmarking",
            "checkpoints",
            "command-line",
            "deploying",
            "evaluation",
            "first-minutes",
            "galleries",
            "jetson",
            "lora",
            "masks",
            "options",
            "page",
            "performance",
            "photo-model",
            "presets",
            "less-work",
            "provenance",
            "quantisation",
            "ray",
            "serving",
            "serving-operations",
            "sweeps",
            "tensorrt",
            "tiles",
            "training",
            "training-data",
        )
    ),
}
# Pages with a block that is run, and the files that it makes.
RUN_COMMANDS = {
    "README.md": {"old.png", "drawn.png", "same-edit.png"},
    "docs/command-line.md": {
        "old.png",
        "inverted",
        "same-edit.png",
        "darker.jpg",
        "star.png",
        "drawn.png",
        "green.png",
        "gallery/scene.png",
        "sweep/sheet.png",
    },
}
RUN_PYTHON = {
    "README.md": {"old.png"},
    "docs/options.md": set(),
    "docs/python.md": {
        "blue.png",
        "0.webp",
        "1.webp",
        "preview.png",
        "inverted-0.png",
        "inverted-1.png",
        "darker-2.png",
    },
    "docs/sessions.md": {"chain.png"},
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_COMMANDS)
def test_the_commands(page: str, checkout: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (block,) = blocks(page, "bash")
    for command in block.strip().splitlines():
        assert command.startswith("pixrt ")
        done = subprocess.run(["bash", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    for name in RUN_COMMANDS[page]:
        assert (checkout / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PYTHON)
def test_the_python(page: str, checkout: Path) -> None:
    printed = ""
    for block in blocks(page, "python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert ("stopped by on_step after 5 of 20 steps" in printed) == (page == "docs/python.md")
    for name in RUN_PYTHON[page]:
        assert (checkout / name).exists(), name


def test_no_block_is_left_out() -> None:
    assert {page for page in PAGES if blocks(page, "bash")} == set(RUN_COMMANDS)
    assert {page for page in PAGES if blocks(page, "python")} == set(RUN_PYTHON)


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


def test_every_parameter_and_scheduler_is_listed() -> None:
    options_page = text_of("docs/options.md")
    for options in TASKS:
        for field in dataclasses.fields(options):
            assert re.search(rf"^\| .*`{field.name}`.* \|", options_page, re.MULTILINE), field.name
    for name in SCHEDULERS:
        assert f"`{name}`" in options_page


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(r"^::: pixrt\.(\w+)$", text_of("docs/reference/python.md"), re.MULTILINE)
    assert sorted(named) == sorted(set(pixrt.__all__) - {"__version__"})


@pytest.mark.parametrize("page", PAGES)
def test_every_file_it_names_is_there(page: str) -> None:
    text = text_of(page)
    for name in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if name == "reference/command-line.md" or name.startswith("https://"):  # the former is made: docs/pages.py
            continue
        assert (ROOT / page).parent.joinpath(name).exists(), name
    for name in re.findall(r"`(?:python )?((?:benchmarks|docs|examples|export|runtime|tests)/[\w./]+)", text):
        assert (ROOT / name).exists(), name


def commands(page: str) -> list[list[str]]:
    """The words after `pixrt`, of lines in shell blocks and of the Dockerfiles' comments."""
    text = text_of(page)
    if page in DOCKERFILES:
        text = "\n".join(re.findall(r"^#   +(.*)", text, re.MULTILINE))
    else:
        text = "\n".join(re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(("pixrt ", "docker run "))]
    return [words[next(i for i, word in enumerate(words) if word in ("pixrt", "pixrt:cpu")) + 1 :] for words in found]


def test_every_page_with_commands_is_known() -> None:
    assert {page for page in (*PAGES, *DOCKERFILES) if commands(page)} == WITH_COMMANDS


@pytest.mark.parametrize("page", sorted(WITH_COMMANDS))
def test_the_options_of_every_command_exist(page: str) -> None:
    found = commands(page)
    assert found
    for found_words in found:
        command, words = typer.main.get_command(app), found_words
        while hasattr(command, "resolve_command"):
            _, command, words = command.resolve_command(command.context_class(command), words)
        command.make_context("pixrt", words)
