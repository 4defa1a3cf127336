"""The README's commands and its Python are run as they stand; what it lists is what there is."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pixrt.options import SCHEDULERS, EditOptions

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def test_the_commands(checkout: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (block,) = blocks("bash")
    for command in block.strip().splitlines():
        assert command.startswith("pixrt ")
        done = subprocess.run(["bash", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    assert {"blue.png", "inverted", "same-edit.png", "darker.jpg"} <= {path.name for path in checkout.iterdir()}


def test_the_python(checkout: Path) -> None:
    (block,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", block], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stopped by on_step after 5 of 20 steps" in done.stdout
    assert {"blue.png", "0.webp", "1.webp", "preview.png"} <= {path.name for path in checkout.iterdir()}


def test_every_parameter_and_scheduler_is_listed() -> None:
    for field in dataclasses.fields(EditOptions):
        assert f"| `{field.name}` |" in README
    for name in SCHEDULERS:
        assert f"`{name}`" in README


def test_every_file_it_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`((?:benchmarks|examples)/[\w./]+)", README):
        assert (ROOT / name).exists(), name
