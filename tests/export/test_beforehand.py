"""What is wrong with paths is told before PyTorch is imported, which takes long."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch  # the packages of the extra have to be there
CHECKPOINT = Path(__file__).parent.parent / "data" / "shapes_checkpoint"
# PyTorch is found, and fails when it is imported.
PROGRAM = """
import sys
from importlib.machinery import ModuleSpec

class Broken:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "torch" else None
    def create_module(self, spec):
        raise SystemExit("PyTorch was imported")

sys.meta_path.insert(0, Broken())
from pixrt.cli.entry import run
sys.argv[0] = "pixrt"
run()
"""
MISTAKES = {
    "export part -o bundle": (5, "part has no folder text_encoder/"),
    "export text.txt/x/y -o bundle": (5, "neither a folder nor a hub id"),
    f"export {CHECKPOINT} -o full": (7, "full is not empty"),
    f"export {CHECKPOINT} -o bundle --lora no.safetensors": (2, "there is no file no.safetensors"),
    f"train lora --checkpoint {CHECKPOINT} --data nowhere -o run": (9, "nowhere does not exist"),
    "train lora --checkpoint part --data full -o run": (5, "part has no folder text_encoder/"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_it_is_told_before(words: str, tmp_path: Path) -> None:
    for name in ("part/unet/diffusion_pytorch_model.safetensors", "part/vae/diffusion_pytorch_model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "text.txt").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    command = [sys.executable, "-c", PROGRAM, *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1"})
    code, told = MISTAKES[words]
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "run").exists()
