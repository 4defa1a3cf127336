"""Where a bundle goes: whole or not at all, and nothing of the user's is lost."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import Exports
from kept import writable_copy
from pixrt import Editor
from pixrt.bundles.store import open_bundle, sha256_file
from pixrt.errors import ExportMismatch, OutputError
from pixrt_export import ExportOptions, export_checkpoint

pytestmark = pytest.mark.torch


def export(checkpoint: Path | str, output: Path, **options: Any) -> Any:
    given = ExportOptions(checkpoint=str(checkpoint), output=output, **options)
    return export_checkpoint(given, on_progress=lambda stage: None)


@pytest.mark.slow
def test_large_weights_stand_outside(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Any
) -> None:
    monkeypatch.setattr("pixrt_export.tracing.EXTERNAL_ABOVE_BYTES", 100_000)
    mask = os.umask(0)
    os.umask(mask)
    for precision in ("fp32", "fp16", "fp16-weights"):
        export(exports.checkpoint("sd1"), tmp_path / precision, precision=precision)
        data = tmp_path / precision / "unet.onnx_data"
        assert data.stat().st_mode & 0o777 == 0o666 & ~mask
        assert "unet.onnx_data" in open_bundle(tmp_path / precision).manifest.files
        moved = (tmp_path / precision).rename(tmp_path / f"moved-{precision}")
        with Editor(moved, backend="ort-cpu") as editor, Editor(exports.bundle("sd1", precision)) as whole:
            ours, theirs = (e.edit(scene, "x", steps=2, seed=1).image for e in (editor, whole))
            assert np.abs(np.int16(ours) - np.int16(theirs)).max() <= 1


def test_outputs(exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("x")
    shapes = exports.checkpoint("shapes")
    with pytest.raises(OutputError, match="is a file"):
        export(shapes, tmp_path / "file")
    with pytest.raises(OutputError, match="not empty"):
        export(shapes, tmp_path / "full")
    with pytest.raises(OutputError, match="is not a bundle"):
        export(shapes, tmp_path / "full", overwrite=True)
    with pytest.raises(OutputError, match="cannot write"):
        export(shapes, tmp_path / "file" / "bundle")
    assert (tmp_path / "full" / "precious.txt").read_text() == "x"


def test_a_failed_export_leaves_the_old_bundle(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = writable_copy(exports.bundle("sd1", "fp32"), tmp_path / "bundle")
    before = {path.name: sha256_file(path) for path in old.iterdir()}
    monkeypatch.setattr("pixrt_export.check.TOLERANCE", {"fp32": 0.0})
    with pytest.raises(ExportMismatch, match="differs from PyTorch by"):
        export(exports.checkpoint("sd1"), old, overwrite=True)
    assert {path.name: sha256_file(path) for path in old.iterdir()} == before
    assert list(tmp_path.iterdir()) == [old]


def test_the_output_is_swapped_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails while the new bundle takes its place, one whole bundle is there afterwards."""
    from pixrt.bundles.store import BUILT_IN
    from pixrt_export.output import bundle_folder

    output = tmp_path / "bundle"
    shutil.copytree(BUILT_IN / "shapes", output)
    original = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return original(path, target)

    monkeypatch.setattr("pixrt.folders.rename_if", lambda *_: False)  # as where no call exchanges folders
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt), bundle_folder(output, overwrite=True) as folder:
        shutil.copy(BUILT_IN / "shapes" / "manifest.json", folder)
    open_bundle(output)
    assert list(tmp_path.iterdir()) == [output]
    monkeypatch.undo()
    with bundle_folder(output, overwrite=True) as folder:
        shutil.copy(BUILT_IN / "shapes" / "manifest.json", folder)
    assert [path.name for path in output.iterdir()] == ["manifest.json"]
    assert list(tmp_path.iterdir()) == [output]


def test_what_appears_during_an_export_stays(tmp_path: Path) -> None:
    from pixrt_export.output import bundle_folder

    def work(folder: Path) -> None:
        (folder / "manifest.json").write_text("{}")
        (tmp_path / "it").mkdir()
        (tmp_path / "it" / "thesis.txt").write_text("x")

    with pytest.raises(OutputError, match="not empty"), bundle_folder(tmp_path / "it", overwrite=False) as folder:
        work(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["it", "thesis.txt"]


def test_a_bundle_with_a_users_file_is_not_overwritten(tmp_path: Path) -> None:
    from pixrt.bundles.store import BUILT_IN
    from pixrt_export.output import bundle_folder

    shutil.copytree(BUILT_IN / "shapes", tmp_path / "it")
    (tmp_path / "it" / "notes.txt").write_text("x")
    with pytest.raises(OutputError, match=r"notes\.txt"), bundle_folder(tmp_path / "it", overwrite=True):
        raise AssertionError


@pytest.mark.slow
def test_the_current_folder_as_output(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(exports.checkpoint("shapes"), Path())
    assert open_bundle(tmp_path / "here").manifest.task == "edit"
