"""What several test files share: one opened editor, and the example scene."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from exported import Exports
from pixrt import Editor

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def editor() -> Iterator[Editor]:
    """The built-in model on the CPU."""
    with Editor(backend="ort-cpu", threads=2) as opened:
        yield opened


@pytest.fixture
def scene() -> Image.Image:
    """An example of the built-in model's world, 64 x 64."""
    with Image.open(ROOT / "examples" / "scene.png") as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Random-weight checkpoints and their bundles. Needs PyTorch."""
    pytest.importorskip("diffusers")
    return Exports(tmp_path_factory.mktemp("exports"))
