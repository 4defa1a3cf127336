"""Engines of a bundle over the simulated driver and runtime: which is taken, LoRAs, stripped, streamed, RTX's."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import Exports
from simulated_cuda import SimulatedDriver
from simulated_edits import SIZE, assert_close, edit, picture

pytestmark = [pytest.mark.simulated, pytest.mark.torch]


class TestEngines:
    def test_arrays_in_ordinary_memory_can_be_bound(self, driver: SimulatedDriver, bundle: Path) -> None:
        import simulated_tensorrt
        from pixrt.backends.tensorrt.backend import TensorRtBackend
        from pixrt.bundles.manifest import Component
        from pixrt.bundles.store import open_bundle

        opened, backend = open_bundle(bundle), TensorRtBackend("tensorrt", "tensorrt", simulated_tensorrt)
        engine = backend.open(opened, Component.VAE_DECODER)
        given, made = np.zeros((1, 4, 6, 8), np.float32), np.zeros((1, 3, SIZE[1], SIZE[0]), np.float32)
        run = engine.bind({engine.inputs[0].name: given, engine.outputs[0].name: made})
        pictures = []
        for value in (0.5, -1.0, 0.5):
            given[...] = value
            run()
            pictures.append(made.copy())
        assert np.abs(pictures[0]).max() > 0
        assert not np.allclose(pictures[0], pictures[1])
        np.testing.assert_array_equal(pictures[0], pictures[2])
        del run
        engine.close()
        backend.close()

    def test_engines_of_strangers_take_leave(
        self, driver: SimulatedDriver, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pixrt import Editor
        from pixrt.bundles import engine_owner
        from pixrt.errors import EngineError

        monkeypatch.setattr(engine_owner, "_folder", lambda: tmp_path / "nobody")
        with pytest.raises(EngineError, match=r"was not built by you here.*--trust-engines"):
            Editor(bundle, backend="tensorrt")
        with Editor(bundle, backend="tensorrt", trust_engines=True) as editor:
            edit(editor, [picture(9)], ["x"], seed=1)

    def test_a_shape_that_no_engine_takes(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor
        from pixrt.errors import EngineError

        with (
            Editor(bundle, backend="tensorrt") as editor,
            pytest.raises(EngineError, match=r"no engine of vae_encoder takes sample of 1 x 3 x 96 x 96; there are"),
        ):
            edit(editor, [picture(3, 96, 96)], ["x"], seed=1, resolution=96)

    @pytest.mark.parametrize("fused", [True, False])
    def test_a_picture_larger_than_every_engine_is_made_in_tiles(
        self, driver: SimulatedDriver, exports: Exports, tmp_path: Path, fused: bool
    ) -> None:
        """Of the largest square that there are engines for, by the plain UNet, also behind a fused step."""
        from pixrt import Editor
        from simulated_engines import with_engines

        folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=((128, 128),))
        shape: dict[str, Any] = {"seed": 1, "resolution": 192, "guidance_interval": (0.0, 0.7)}
        with (
            Editor(folder, backend="tensorrt", fused_step=fused) as editor,
            Editor(folder, backend="ort-cpu", threads=1, tile=128) as plain,
        ):
            for shade in (60, 60, 200, 90):  # as it is, captured, launched; other sources
                given = [picture(shade, 192, 160)], ["x"]
                assert_close(edit(editor, *given, **shape), edit(plain, *given, **shape))
            assert not any("unet_step" in memory.name for memory in editor.memory)
            (result,) = editor.edit([picture(60, 192, 160)], "x", steps=2, **shape)
            assert (result.parameters["tile"], result.network_rows % 4) == (128, 0)

    def test_without_engines_the_ladder_goes_on(self, driver: SimulatedDriver, exports: Exports) -> None:
        from pixrt import Editor

        with Editor(exports.bundle("sd1", "fp32")) as editor:
            assert editor.backend == "ort-cpu"
            reasons = {status.name: status.reason for status in editor.passed_over}
        assert "has no tensorrt engines" in reasons["tensorrt"]

    def test_an_altered_plan_is_not_loaded(
        self, driver: SimulatedDriver, bundle: Path, tmp_path: Path, exports: Exports
    ) -> None:
        from pixrt import Editor
        from pixrt.errors import EngineError
        from simulated_engines import with_engines

        folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "bundle", sizes=(SIZE,), batch=(1, 2))
        for plan in (folder / "engines").glob("text_encoder*.plan"):
            plan.write_bytes(plan.read_bytes().replace(b"text_encoder", b"text_emcoder"))
        with Editor(folder, backend="tensorrt") as editor, pytest.raises(EngineError, match="is altered"):
            edit(editor)

    def test_loras_are_refitted_and_taken_back(self, driver: SimulatedDriver, exports: Exports, tmp_path: Path) -> None:
        from peft_loras import make_lora
        from pixrt import Cancelled, Editor
        from pixrt_engines import Knobs
        from simulated_engines import with_engines

        checkpoint = exports.checkpoint("sd1")
        files = [make_lora(checkpoint, tmp_path / f"lora{seed}", seed=seed, text=bool(seed)) for seed in (0, 1)]
        folder = with_engines(
            exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), knobs=Knobs(refittable=True)
        )
        with (
            Editor(folder, backend="tensorrt") as editor,
            Editor(folder, backend="ort-cpu", threads=1, fused_step=True) as plain,
        ):
            base = edit(editor)
            for loras in ([(files[0], 1.0)], [(files[1], 0.7)], [(files[0], 1.0)], [], [(f, 0.5) for f in files], []):
                with pytest.raises(Cancelled):  # its steps are on the stream when the weights are replaced
                    edit(editor, steps=5, on_step=lambda info: info.step < 3)
                editor.set_loras(loras)
                plain.set_loras(loras)
                assert_close(edit(editor), edit(plain))
            for ours, theirs in zip(edit(editor), base, strict=True):
                np.testing.assert_array_equal(ours, theirs)

    def test_loras_on_engines_that_take_none(
        self, driver: SimulatedDriver, bundle: Path, exports: Exports, tmp_path: Path
    ) -> None:
        from peft_loras import make_lora
        from pixrt import Editor
        from pixrt.errors import EngineError

        lora = make_lora(exports.checkpoint("sd1"), tmp_path, seed=4)
        with pytest.raises(EngineError, match="was not built with --refittable"):
            Editor(bundle, backend="tensorrt", loras=[(lora, 1.0)])
        with Editor(bundle, backend="tensorrt") as editor:
            expected = edit(editor)
            with pytest.raises(EngineError, match="was not built with --refittable"):
                editor.set_loras([(lora, 1.0)])
            assert editor.loras == ()
            assert_close(edit(editor), expected)

    def test_of_engines_for_one_shape_the_one_that_is_asked_for_is_taken(
        self, driver: SimulatedDriver, bundle: Path, exports: Exports, tmp_path: Path
    ) -> None:
        """Built a second time, refittable: the first ones are still there, and run without LoRAs."""
        from peft_loras import make_lora
        from pixrt import Editor
        from pixrt_engines import Knobs
        from simulated_engines import with_engines

        shapes: dict[str, Any] = {"sizes": (SIZE,), "batch": (1, 2)}
        first = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "a", **shapes)
        both = with_engines(first, tmp_path / "b", knobs=Knobs(refittable=True), **shapes)
        lora = make_lora(exports.checkpoint("sd1"), tmp_path, seed=4)
        with (
            Editor(both, backend="tensorrt") as editor,
            Editor(both, backend="ort-cpu", threads=1, fused_step=True) as plain,
        ):
            for loras in ([], [(lora, 1.0)], []):
                editor.set_loras(loras)
                plain.set_loras(loras)
                assert_close(edit(editor), edit(plain))

    def test_plans_that_nothing_is_bound_to_are_closed(
        self, driver: SimulatedDriver, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pools are kept up to a number of bytes; here for one."""
        from pixrt import Editor
        from simulated_engines import with_engines

        monkeypatch.setattr("pixrt.core.networks.POOL_BYTES", 1)
        sizes = [(8 * n, 64) for n in range(4, 8)]
        for number, size in enumerate(sizes):  # a build each, so that there are only static plans
            last = tmp_path / str(number)
            with_engines(tmp_path / str(number - 1) if number else exports.bundle("sd1", "fp32"), last, sizes=(size,))
        with Editor(last, backend="tensorrt") as editor:
            for width, height in sizes:
                shape = {"resolution": max(width, height), "image_guidance_scale": 1.5}
                edit(editor, [picture(9, width, height)], ["x"], seed=1, steps=1, **shape)
            steps = [memory.name for memory in editor.memory if "unet_step" in memory.name]
        assert len(steps) <= 2 < len(sizes)  # the last one, and one that was still bound when it was opened

    def test_auto_passes_over_plans_that_are_altered(
        self, driver: SimulatedDriver, exports: Exports, tmp_path: Path
    ) -> None:
        from pixrt import Editor
        from simulated_engines import with_engines

        folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "bundle", sizes=(SIZE,), batch=(1, 2))
        with Editor(folder) as editor:
            assert editor.backend == "tensorrt"
        plan = next((folder / "engines").glob("unet_step*.plan"))
        plan.write_bytes(plan.read_bytes()[:-1])
        with Editor(folder) as editor:
            assert editor.backend == "ort-cpu"
            assert any("is truncated" in status.reason for status in editor.passed_over)

    def test_stripped_plans_take_their_weights_from_the_bundle(
        self, driver: SimulatedDriver, bundle: Path, exports: Exports, tmp_path: Path
    ) -> None:
        from pixrt import Editor
        from pixrt_engines import Knobs
        from simulated_engines import with_engines

        folder = with_engines(
            exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), knobs=Knobs(strip=True)
        )
        with Editor(folder, backend="tensorrt") as editor, Editor(bundle, backend="tensorrt") as whole:
            assert_close(edit(editor), edit(whole))

    def test_weights_beyond_the_budget_are_streamed(
        self, driver: SimulatedDriver, bundle: Path, exports: Exports, tmp_path: Path
    ) -> None:
        from pixrt import Editor
        from pixrt.errors import EngineError
        from pixrt_engines import Knobs
        from simulated_engines import with_engines

        knobs = Knobs(weight_streaming=True)
        folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), knobs=knobs)
        with Editor(bundle, backend="tensorrt") as whole:
            expected = edit(whole)
        with Editor(folder, backend="tensorrt", weight_budget_mib=1) as editor:
            for _ in range(3):
                assert_close(edit(editor), expected)
        with pytest.raises(EngineError, match="not built with --weight-streaming"):
            Editor(bundle, backend="tensorrt", weight_budget_mib=1)

    def test_what_is_open_tells_its_memory(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt") as editor:
            assert editor.memory == ()
            edit(editor)
            kinds = [memory.name.split("-")[0].removeprefix("engines/") for memory in editor.memory]
            assert kinds == ["text_encoder", "unet_step", "vae_decoder", "vae_encoder"]
            width, height = SIZE
            (decoder,) = [memory for memory in editor.memory if "decoder" in memory.name]
            assert decoder.array_bytes == 4 * (3 * width * height + 4 * width * height // 64)
            assert all(memory.scratch_bytes > 0 for memory in editor.memory)


class TestRtx:
    """What TensorRT-RTX has besides: kernels compiled at the first run, and kept."""

    @pytest.fixture
    def rtx(self, driver: SimulatedDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
        import simulated_rtx

        monkeypatch.setitem(sys.modules, "tensorrt_rtx", simulated_rtx)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(simulated_rtx, "compiled", 0)
        return simulated_rtx

    @pytest.fixture
    def folder(self, rtx: Any, exports: Exports, tmp_path: Path) -> Path:
        from simulated_engines import with_engines

        return with_engines(
            exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), library="tensorrt-rtx"
        )

    def test_pictures_and_kept_kernels(
        self, driver: SimulatedDriver, rtx: Any, folder: Path, bundle: Path, tmp_path: Path
    ) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt") as editor:
            expected = edit(editor)
        counts = []
        for _ in range(2):
            rtx.compiled = 0
            with Editor(folder, backend="tensorrt-rtx") as editor:
                before = driver.counters().graph_launches
                for _ in range(3):
                    assert_close(edit(editor), expected)
                assert driver.counters().graph_launches > before
            counts.append(rtx.compiled)
        assert counts[0] > counts[1] == 0
        kept = list((tmp_path / "cache").rglob("*.cache"))
        assert len(kept) == 4
        assert all(path.stat().st_mode & 0o022 == 0 for path in kept)

    @pytest.mark.parametrize("damage", ["others may write", "a link", "not of this library"])
    def test_kernels_that_cannot_be_trusted_are_compiled_again(
        self, driver: SimulatedDriver, rtx: Any, folder: Path, tmp_path: Path, damage: str
    ) -> None:
        from pixrt import Editor

        with Editor(folder, backend="tensorrt-rtx") as editor:
            expected = edit(editor)
        for path in (tmp_path / "cache").rglob("*.cache"):
            if damage == "others may write":
                path.chmod(0o666)
            elif damage == "a link":
                path.rename(path.with_suffix(".moved"))
                path.symlink_to(path.with_suffix(".moved"))
            else:
                path.write_bytes(b"something else")
        rtx.compiled = 0
        with Editor(folder, backend="tensorrt-rtx") as editor:
            assert_close(edit(editor), expected)
        assert rtx.compiled > 0

    def test_a_folder_that_cannot_be_written_costs_time_alone(
        self, driver: SimulatedDriver, rtx: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pixrt import Editor

        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with Editor(folder, backend="tensorrt-rtx") as editor:
            edit(editor)
        assert rtx.compiled > 0
