"""What several test files share (an opened editor, exports, the example scene), and what is run where.

Tests marked `torch` are deselected where PyTorch is missing; `-m "not torch"` is a promise, so PyTorch cannot be
imported then. A test file that needs another package of an extra is skipped where it is missing.
"""

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

from exported import Exports
from kept import cache_folder
from pixrt import Editor
from pixrt_export.training.options import AutoencoderOptions, EditTrainingOptions
from shapes import SCENE, Outcome, Run
from sharing import share_all, take_one_thread
from tiny_training import plan_of, train

# A busy machine is no failure.
settings.register_profile("pixrt", deadline=None)
settings.load_profile("pixrt")

# What no test file can be without is not among these.
OPTIONAL = {"accelerate", "cuda", "datasets", "diffusers", "matplotlib", "onnx", "onnx_ir", "peft", "safetensors"}
OPTIONAL |= {
    "axe_playwright_python",
    "blind_watermark",
    "c2pa",
    "playwright",
    "cryptography",
    "openvino",
    "scipy",
    "tensorboard",
    "torch",
    "transformers",
}

# The commands that make pictures.
MAKING = ("batch", "edit", "generate", "img2img", "inpaint", "style", "sweep")


class WithoutTorch(PathFinder):
    """What Python imports by, where PyTorch is not installed."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] == "torch" else super().find_spec(name, path, target)


class OptionalFile(pytest.Module):
    """A test file, skipped where it imports a package of an extra that is not installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            missing = error.__cause__
            if isinstance(missing, ModuleNotFoundError) and str(missing.name).partition(".")[0] in OPTIONAL:
                pytest.skip(f"{missing.name} is not installed", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return OptionalFile.from_parent(parent, path=module_path)


def pytest_configure(config: pytest.Config) -> None:
    if "not torch" in config.option.markexpr:
        sys.meta_path[:] = [WithoutTorch if finder is PathFinder else finder for finder in sys.meta_path]
    share_all()
    take_own_cache(config)
    if "PYTEST_XDIST_WORKER" in os.environ:
        take_one_thread()


def take_own_cache(config: pytest.Config) -> None:
    """Nothing of the user's cache is read or written, by the processes that tests start neither; kept exports stay."""
    os.environ.setdefault("PIXRT_TEST_CACHE", str(cache_folder().parent))
    if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it
        folder = tempfile.mkdtemp(prefix="pixrt-tests-cache-")
        os.environ["XDG_CACHE_HOME"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is None:
        needing = {item for item in items if item.get_closest_marker("torch")}
        config.hook.pytest_deselected(items=list(needing))
        items[:] = [item for item in items if item not in needing]


@pytest.fixture(scope="session")
def editor() -> Iterator[Editor]:
    """The model of drawn scenes on the CPU."""
    with Editor("shapes", backend="ort-cpu", threads=2) as opened:
        yield opened


@pytest.fixture
def scene() -> Image.Image:
    """An example of the drawn scenes, 64 x 64."""
    with Image.open(SCENE) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def exports() -> Iterator[Exports]:
    """Random-weight checkpoints and their bundles, kept on disk. Needs PyTorch."""
    pytest.importorskip("diffusers")
    made = Exports()
    yield made
    assert not made.changed(), "a test wrote where others read; it must take a `kept.writable_copy`"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that the test starts take SIGINT, also where this one was started in the background, without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
    """Run the entry point in a folder that holds `scene.png`; without `-b` the model of drawn scenes makes pictures."""
    from pixrt.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.png").write_bytes(SCENE.read_bytes())

    def call(*words: object) -> Outcome:
        bundle = ("-b", "shapes") if words and words[0] in MAKING else ()  # of several the last one counts
        monkeypatch.setattr(sys, "argv", ["pixrt", *map(str, (*words[:1], *bundle, *words[1:]))])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return call
