"""What several test files share: one opened editor, and the example scene."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image

from demo import SCENE, Outcome, Run
from exported import Exports
from pixrt import Editor
from pixrt_export.training.options import AutoencoderOptions, EditTrainingOptions
from tiny_training import plan_of, train

# A busy machine is no failure.
settings.register_profile("pixrt", deadline=None)
settings.load_profile("pixrt")


@pytest.fixture(scope="session")
def editor() -> Iterator[Editor]:
    """The built-in model on the CPU."""
    with Editor(backend="ort-cpu", threads=2) as opened:
        yield opened


@pytest.fixture
def scene() -> Image.Image:
    """An example of the built-in model's world, 64 x 64."""
    with Image.open(SCENE) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Random-weight checkpoints and their bundles. Needs PyTorch."""
    pytest.importorskip("diffusers")
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new model of tiny networks after the autoencoder stage. Needs PyTorch."""
    trained = train("train_autoencoder", plan_of(AutoencoderOptions, tmp_path_factory.mktemp("autoencoder")))
    assert trained is not None
    return trained


@pytest.fixture(scope="session")
def second_stage(first_stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model after the edit stage, not interrupted. Needs PyTorch."""
    output = tmp_path_factory.mktemp("edit")
    trained = train("train_edit", plan_of(EditTrainingOptions, output, str(first_stage), train_text_encoder=True))
    assert trained is not None
    return trained


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the entry point in a folder that holds `scene.png`."""
    from pixrt.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.png").write_bytes(SCENE.read_bytes())

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pixrt", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return call
