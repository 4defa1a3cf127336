"""What an editor reads of a bundle's plans, and when: each once, when a shape first needs it; kernels kept early."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from exported import Exports
from simulated_cuda import SimulatedDriver
from simulated_edits import SIZE, assert_close, edit

pytestmark = [pytest.mark.simulated, pytest.mark.torch]


@pytest.mark.parametrize("reader", [True, False])
def test_each_plan_is_read_once_and_only_if_it_is_used(
    driver: SimulatedDriver, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: bool
) -> None:
    """The bundle has engines of the UNet too, which the fused step stands for; bindings before 10.9 have no reader."""
    import simulated_tensorrt
    from pixrt import Editor
    from pixrt.bundles import engine_files
    from simulated_engines import with_engines

    folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2))
    read: Counter[str] = Counter()
    check = engine_files._check_content

    def counted(path: Path, spec: Any, *given: Any) -> None:
        read[spec.component] += 1
        check(path, spec, *given)

    monkeypatch.setattr(engine_files, "_check_content", counted)  # what is called once all of a plan is hashed
    if not reader:
        monkeypatch.delattr(simulated_tensorrt, "IStreamReaderV2")
    with Editor(folder) as editor:
        assert editor.backend == "tensorrt"
        assert not read
        for steps in (2, 3):
            edit(editor, steps=steps)
    assert read == dict.fromkeys(("text_encoder", "unet_step", "vae_encoder", "vae_decoder"), 1)


def test_a_plan_that_is_changed_while_it_is_read_is_refused(
    driver: SimulatedDriver, bundle: Path, tmp_path: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulated_tensorrt
    from pixrt import Editor
    from pixrt.errors import EngineError
    from simulated_engines import with_engines

    folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "bundle", sizes=(SIZE,), batch=(1, 2))
    (plan,) = (folder / "engines").glob("text_encoder*.plan")
    read = simulated_tensorrt._read_all

    def change(reader: Any) -> bytes:
        data = read(reader)
        with plan.open("ab") as file:
            file.write(b" ")
        return data

    monkeypatch.setattr(simulated_tensorrt, "_read_all", change)
    with (
        Editor(folder, backend="tensorrt") as editor,
        pytest.raises(EngineError, match="was changed while it was read"),
    ):
        edit(editor)


def test_kernels_are_kept_after_the_first_run(
    driver: SimulatedDriver, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed afterwards has not compiled them for nothing."""
    import simulated_rtx
    from pixrt import Editor
    from simulated_engines import with_engines

    monkeypatch.setitem(sys.modules, "tensorrt_rtx", simulated_rtx)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = with_engines(
        exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), library="tensorrt-rtx"
    )
    with Editor(folder, backend="tensorrt-rtx") as editor:
        expected = edit(editor)
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.cache")}
        assert len(kept) == 4
        assert_close(edit(editor), expected)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # written when there are new ones
