"""What fails on a device, and what an edit that stopped leaves: over the simulated driver and runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import Exports
from simulated_cuda import SimulatedDriver
from simulated_edits import SIZE, TEXTS, assert_close, edit, picture

pytestmark = [pytest.mark.simulated, pytest.mark.torch]


class TestFailures:
    @pytest.mark.parametrize("nth", [1, 2, 5, 9, 14, 20, 30])
    def test_out_of_memory_at_any_allocation(self, driver: SimulatedDriver, bundle: Path, nth: int) -> None:
        from pixrt import Editor
        from pixrt.errors import BackendError

        with Editor(bundle, backend="tensorrt") as editor:
            expected = edit(editor)
        with Editor(bundle, backend="tensorrt") as editor:
            driver.fail("cuMemAlloc", nth, times=4)  # pycuda and the device try again once each
            with pytest.raises(BackendError, match=r"ran out of memory: .* MiB are free"):
                edit(editor, [picture(60)], TEXTS[:1], seed=5)
            assert driver.log() == []
            driver.reset()
            assert_close(edit(editor), expected)  # the next edit works

    @pytest.mark.parametrize(
        "function", ["cuMemHostAlloc", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuGraphLaunch"]
    )
    def test_a_call_that_fails_once(self, driver: SimulatedDriver, bundle: Path, function: str) -> None:
        from pixrt import Editor
        from pixrt.errors import BackendError

        with Editor(bundle, backend="tensorrt") as editor:
            expected = edit(editor)
            driver.fail(function, 1, code=700)
            with pytest.raises(BackendError, match="CUDA failed"):
                edit(editor, [picture(77)], ["new"], seed=1)
            driver.reset()
            assert_close(edit(editor), expected)

    def test_an_edit_stopped_halfway(self, driver: SimulatedDriver, bundle: Path) -> None:
        """Its steps are still on the stream when the next edit, of another length, begins."""
        from pixrt import Cancelled, Editor

        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            expected = [edit(editor, steps=steps) for steps in (3, 6)]
            for _ in range(3):
                with pytest.raises(Cancelled):
                    edit(editor, steps=9, on_step=lambda info: info.step < 5)
                assert_close(edit(editor, steps=6), expected[1])
                with pytest.raises(Cancelled):
                    edit(editor, steps=9, on_step=lambda info: info.step < 2)
                assert_close(edit(editor, steps=3), expected[0])

    def test_a_stopped_edit_does_not_run_on_with_the_tables_of_the_next(
        self, driver: SimulatedDriver, bundle: Path
    ) -> None:
        """Its last steps run one branch; the next edit's tables, of as many steps, name the rows of three."""
        from pixrt import Cancelled, Editor

        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            expected = edit(editor, steps=9)
            for _ in range(3):
                with pytest.raises(Cancelled):
                    edit(editor, steps=9, guidance_interval=(0.0, 0.4), on_step=lambda info: info.step < 8)
                assert_close(edit(editor, steps=9), expected)

    def test_an_edit_after_one_that_was_not_finite(
        self, driver: SimulatedDriver, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pixrt import Editor, PixrtError
        from pixrt.core.track import draw_noise

        def broken_noise(seed: int, out: Any, *, skip: int = 0) -> None:
            draw_noise(seed, out, skip=skip)
            out[...] = np.nan

        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            expected = edit(editor, scheduler="dpmpp_2m")
            with monkeypatch.context() as broken:
                broken.setattr("pixrt.core.track.draw_noise", broken_noise)
                with pytest.raises(PixrtError, match="not finite"):
                    edit(editor, scheduler="dpmpp_2m")
            assert_close(edit(editor, scheduler="dpmpp_2m"), expected)

    @pytest.mark.filterwarnings("ignore:no CUDA graph can be captured")
    def test_what_cannot_be_captured_runs_without_a_graph(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt") as editor:
            expected = edit(editor)
            for _ in range(30):
                driver.fail("cuStreamBeginCapture", 1, code=900)
                assert_close(edit(editor), expected)
            driver.reset()
            assert_close(edit(editor), expected)

    def test_a_lora_that_fails_leaves_the_earlier_ones(
        self, driver: SimulatedDriver, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import simulated_tensorrt
        from peft_loras import make_lora
        from pixrt import Editor
        from pixrt.errors import EngineError
        from pixrt_engines import Knobs
        from simulated_engines import with_engines

        files = [
            make_lora(exports.checkpoint("sd1"), tmp_path / f"lora{seed}", seed=seed, text=True) for seed in (0, 1)
        ]
        folder = with_engines(
            exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), knobs=Knobs(refittable=True)
        )
        refit = simulated_tensorrt.Refitter.refit_cuda_engine
        with Editor(folder, backend="tensorrt", loras=[(files[0], 1.0)]) as editor:
            expected = edit(editor)
            for failing in (1, 2):  # the text encoder's, the UNet's
                calls = iter(range(1, 100))
                broken = lambda self, calls=calls, failing=failing: next(calls) != failing and refit(self)  # noqa: E731
                monkeypatch.setattr(simulated_tensorrt.Refitter, "refit_cuda_engine", broken)
                with pytest.raises(EngineError, match="does not take other weights"):
                    editor.set_loras([(files[1], 0.7)])
                monkeypatch.setattr(simulated_tensorrt.Refitter, "refit_cuda_engine", refit)
                assert [lora.scale for lora in editor.loras] == [1.0]
                assert_close(edit(editor), expected)

    def test_a_lost_device(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor
        from pixrt.errors import BackendError

        with Editor(bundle, backend="tensorrt") as editor:
            edit(editor)
            driver.lose("cuStreamSynchronize", 3)
            with pytest.raises(BackendError, match="does not answer any more"):
                edit(editor)
            with pytest.raises(BackendError, match="does not answer any more"):
                edit(editor)

    def test_a_run_that_the_library_refuses(
        self, driver: SimulatedDriver, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import simulated_tensorrt
        from pixrt import Editor
        from pixrt.errors import BackendError

        with Editor(bundle, backend="tensorrt") as editor:
            expected = edit(editor)
            with monkeypatch.context() as broken:
                broken.setattr(
                    simulated_tensorrt.IExecutionContext, "execute_async_v3", lambda self, stream_handle: False
                )
                with pytest.raises(BackendError, match=r"plan failed: "):
                    edit(editor, [picture(9)], ["new"], seed=1)
            assert_close(edit(editor), expected)
