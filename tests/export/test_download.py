"""Checkpoints of the hub, by its own client from a mirror of its routes: whole, cut off, refused, and exported."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_mirror import COMMIT, Mirror, hub
from pixrt.bundles.store import find_bundle, open_bundle
from pixrt.errors import BundleError

pytestmark = pytest.mark.torch

LARGE = 24 << 20  # more than the client writes at a time
FIND = "from pixrt_export.hub import find_checkpoint; print(*find_checkpoint('owner/name', False, print))"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    folder = tmp_path / "repository"
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(os.urandom(LARGE))
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not wanted")
    (folder / "picture.png").write_bytes(b"not wanted")
    with hub(Mirror("owner/name", folder)) as running:
        yield running


def environment(mirror: Mirror, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        **{"HF_ENDPOINT": mirror.url, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"},
    }


def find(mirror: Mirror, home: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads where the hub is when it is imported."""
    command = [sys.executable, "-c", FIND]
    return subprocess.run(command, env=environment(mirror, home), capture_output=True, text=True, timeout=120)


def test_what_is_wanted_is_downloaded_and_goes_on_where_it_ended(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut_after = 15 << 20
    home = tmp_path / "home"
    first = find(mirror, home)
    done = find(mirror, home) if first.returncode else first
    assert done.returncode == 0, done.stderr
    assert mirror.cut_after is None
    assert mirror.ranges == [f"bytes={10 << 20}-"]
    plan, folder, id_ = done.stdout.splitlines()[0], *done.stdout.split()[-2:]
    assert plan == f"7 {LARGE + 12}"
    assert id_ == "owner/name"
    assert Path(folder).name == COMMIT
    assert {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()} == {
        name for name in mirror.files() if name not in ("picture.png", "unet/diffusion_pytorch_model.bin")
    }
    ours, theirs = (each / "unet" / "diffusion_pytorch_model.safetensors" for each in (Path(folder), mirror.folder))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("case", ["gated", "unknown", "single"])
def test_what_the_hub_does_not_give(case: str, mirror: Mirror, tmp_path: Path) -> None:
    words = {
        "gated": "only to those who have accepted its terms",
        "unknown": "the hub has no such repository",
        "single": "but the file sd-v1.safetensors",
    }[case]
    mirror.gated = case == "gated"
    if case == "unknown":
        mirror.repository = "owner/other"
    if case == "single":
        mirror.folder = mirror.folder / "single"
        mirror.folder.mkdir()
        (mirror.folder / "sd-v1.safetensors").write_bytes(b"x")
    done = find(mirror, tmp_path / "home")
    assert done.returncode
    assert words in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_pull_makes_a_bundle_that_is_found_by_name(tmp_path: Path) -> None:
    shapes = Path(__file__).parent.parent / "data" / "shapes_checkpoint"
    with hub(Mirror("owner/little-model", shapes)) as mirror:
        settings = {**environment(mirror, tmp_path / "home"), "PIXRT_MODELS": str(tmp_path / "models")}
        command = [sys.executable, "-m", "pixrt", "pull", "owner/little-model", "--defaults-from", "shapes"]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "downloading 1" in done.stderr
        assert "-b little-model" in done.stderr
        again = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
        assert (again.returncode, "there is a bundle 'little-model' already" in again.stderr) == (7, True)
    manifest = open_bundle(tmp_path / "models" / "little-model").manifest
    assert (manifest.name, manifest.source.id) == ("little-model", "owner/little-model")
    own = open_bundle("shapes").manifest
    assert (manifest.defaults, manifest.instructions) == (own.defaults, own.instructions)


def test_a_bundle_called_as_the_hub_calls_a_checkpoint() -> None:
    with pytest.raises(BundleError, match=r"`pixrt pull timbrooks/instruct-pix2pix` makes one: -b instruct-pix2pix"):
        find_bundle("timbrooks/instruct-pix2pix")
