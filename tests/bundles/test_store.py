"""Opening a bundle checks every file of it; each kind of damage has its own message."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pixrt.bundles.manifest import NETWORKS
from pixrt.bundles.store import BUILT_IN, DEFAULT_BUNDLE, find_bundle, list_bundles, open_bundle
from pixrt.errors import BundleAltered, BundleError, BundleTooNew


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shutil.copytree(BUILT_IN / "shapes", tmp_path / "copy")
    return tmp_path / "copy"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _swap(folder: Path) -> None:
    (folder / "vae_encoder.onnx").rename(folder / "x")
    (folder / "vae_decoder.onnx").rename(folder / "vae_encoder.onnx")
    (folder / "x").rename(folder / "vae_decoder.onnx")


@pytest.mark.parametrize("name", [DEFAULT_BUNDLE, "shapes"])
def test_the_built_in_bundles_open(name: str) -> None:
    bundle = open_bundle(name)
    assert bundle.manifest.task == "edit"
    for component in NETWORKS:
        assert bundle.file(component).is_file()


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda f: (f / "manifest.json").unlink(), BundleError, "its export did not finish"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), BundleError, "cannot be read"),
        (lambda f: (f / "manifest.json").write_text("{"), BundleError, "not JSON"),
        (lambda f: _edit_manifest(f, schema=99), BundleTooNew, "schema 99"),
        (lambda f: (f / "unet.onnx").unlink(), BundleError, "lacks unet.onnx"),
        (lambda f: os.truncate(f / "unet.onnx", 1000), BundleAltered, "truncated: 1000 bytes"),
        (lambda f: (f / "unet.onnx").write_bytes(b""), BundleAltered, "truncated: 0 bytes"),
        (lambda f: (f / "vocab.json").write_bytes((f / "vocab.json").read_bytes() + b" "), BundleAltered, "altered"),
        (lambda f: _flip(f / "unet.onnx"), BundleAltered, "altered: SHA-256"),
        (lambda f: _flip(f / "text_encoder.onnx"), BundleAltered, "altered: SHA-256"),
        (_swap, BundleAltered, "bytes"),
    ],
)
def test_damage_is_named(bundle: Path, damage: Callable[[Path], object], error: type[BundleError], words: str) -> None:
    damage(bundle)
    with pytest.raises(error) as caught:
        open_bundle(bundle)
    assert words in str(caught.value)
    assert caught.value.exit_code == 4


def test_without_verify_sizes_are_still_checked(bundle: Path) -> None:
    _flip(bundle / "unet.onnx")
    assert open_bundle(bundle, verify=False).folder == bundle
    os.truncate(bundle / "unet.onnx", 10)
    with pytest.raises(BundleAltered):
        open_bundle(bundle, verify=False)


def test_a_checkpoint_folder_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(BundleError, match="pixrt export"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "../nowhere", "", "shapes/x"])
def test_an_unknown_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "":  # the empty path is the current folder, which is no bundle
        with pytest.raises(BundleError):
            open_bundle(name)
    else:
        with pytest.raises(BundleError, match="there is no bundle"):
            find_bundle(name)


def test_the_users_bundles_have_names(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXRT_MODELS", str(bundle.parent))
    assert dict(list_bundles())["copy"] == bundle
    assert open_bundle("copy").folder == bundle
    assert dict(list_bundles())["shapes"] == BUILT_IN / "shapes"


def test_a_folder_called_like_a_bundle_does_not_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert open_bundle("shapes").folder == BUILT_IN / "shapes"
    with pytest.raises(BundleError, match="manifest"):
        open_bundle("./shapes/")


def test_unfinished_bundles_are_not_listed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXRT_MODELS", str(bundle.parent))
    bundle.rename(bundle.with_name(".copy.abc.tmp"))
    assert [name for name, _ in list_bundles()] == ["demo", "shapes"]
