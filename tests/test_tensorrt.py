"""The TensorRT backend over the simulated driver and runtime: contract, parity, what travels, what is left behind."""

import gc
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import Contract
from exported import Exports
from simulated_cuda import Counters, SimulatedDriver, load_driver

pytestmark = [pytest.mark.simulated, pytest.mark.torch]

SIZE = (64, 48)  # pixels
TEXTS = ["make it winter", "as a drawing"]


@pytest.fixture(scope="session")
def loaded() -> SimulatedDriver:
    return load_driver()


@pytest.fixture
def driver(loaded: SimulatedDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDriver]:
    """The driver, with the simulated library in TensorRT's place; whatever a test leaves behind fails it."""
    import simulated_tensorrt

    monkeypatch.setitem(sys.modules, "tensorrt", simulated_tensorrt)
    loaded.reset()
    before = loaded.counters()
    yield loaded
    gc.collect()
    assert not loaded.raised, loaded.raised[0]
    left = loaded.counters() - before
    assert (left.live_device_bytes, left.live_pinned_bytes, left.live_graphs, left.live_graph_execs) == (0, 0, 0, 0)
    assert (left.live_streams, left.live_events, left.live_contexts) == (0, 0, 0)
    assert loaded.log() == []


@pytest.fixture(scope="session")
def bundle(loaded: SimulatedDriver, exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from simulated_engines import with_engines

    folder = tmp_path_factory.mktemp("engines") / "bundle"
    return with_engines(exports.bundle("sd1", "fp32"), folder, sizes=(SIZE, (64, 64)), batch=(1, 3))


def picture(shade: int, width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray[Any, Any]:
    made = np.full((height, width, 3), shade, np.uint8)
    made[height // 4 : height // 2, width // 3 :] = 255 - shade
    return made


def edit(editor: Any, pictures: Any = None, texts: Any = None, **parameters: Any) -> list[np.ndarray[Any, Any]]:
    given = {"steps": 3, "seed": [5, 6], "scheduler": "euler_ancestral"} | parameters
    results = editor.edit(pictures or [picture(60), picture(200)], texts or TEXTS, **given)
    return [np.asarray(result.image).astype(int) for result in results]


def assert_close(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one - other).max() <= 1


class TestContract(Contract):
    @pytest.fixture
    def engine(self, driver: SimulatedDriver, tmp_path: Path) -> Iterator[Any]:
        import simulated_tensorrt
        from pixrt.backends.tensorrt import TensorRtBackend
        from pixrt.engine_spec import ShapeProfile, SizeRange
        from pixrt.spec import Component
        from pixrt.store import open_bundle
        from simulated_engines import with_engines

        profile = ShapeProfile({"latent_sample": SizeRange((1, 4, 3, 4), (1, 4, 6, 5), (3, 4, 6, 5))})
        component = Component.VAE_DECODER
        built_in = open_bundle("demo", verify=False).folder
        bundle = open_bundle(with_engines(built_in, tmp_path / "b", components=(component,), profile=profile))
        backend = TensorRtBackend("tensorrt", simulated_tensorrt)
        engine = backend.open(bundle, component)
        yield engine
        engine.close()
        backend.close()


class TestParity:
    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("scheduler", ["ddim", "euler_ancestral", "dpmpp_2m", "pndm", "unipc"])
    def test_pictures_are_onnx_runtimes(
        self, driver: SimulatedDriver, bundle: Path, scheduler: Any, fused: bool
    ) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="ort-cpu", threads=1) as plain:
            expected = edit(plain, scheduler=scheduler)
        with Editor(bundle, backend="tensorrt", fused_step=fused) as editor:
            assert editor.backend == "tensorrt"
            for _ in range(3):  # plain, captured, launched
                assert_close(edit(editor, scheduler=scheduler), expected)

    @pytest.mark.parametrize("fused", [True, False])
    def test_changing_pictures_texts_shapes_and_branches(
        self, driver: SimulatedDriver, bundle: Path, fused: bool
    ) -> None:
        from pixrt import Editor

        one = {"seed": 7, "scheduler": "dpmpp_2m"}
        edits: list[dict[str, Any]] = [
            {},
            {"pictures": [picture(90), picture(30)]},
            {"texts": TEXTS[::-1]},
            {"pictures": [picture(120)], "texts": TEXTS[:1], **one},
            {"pictures": [picture(120, 64, 64)], "texts": TEXTS[:1], **one},
            {"image_guidance_scale": 1.0},
            {"guidance_interval": (0.0, 0.5)},
            {"guidance_scale": 1.0, "image_guidance_scale": 1.0},
            {},
        ]
        with (
            Editor(bundle, backend="ort-cpu", threads=1) as plain,
            Editor(bundle, backend="tensorrt", fused_step=fused) as editor,
        ):
            for parameters in edits * 2:
                assert_close(edit(editor, **parameters), edit(plain, **parameters))

    @pytest.mark.parametrize("fused", [True, False])
    def test_every_step_can_be_read(self, driver: SimulatedDriver, bundle: Path, fused: bool) -> None:
        from pixrt import Editor

        def states(backend: Any) -> list[Any]:
            seen: list[Any] = []
            on_step: Callable[[Any], object] = lambda info: seen.append((info.latents, np.asarray(info.preview())))  # noqa: E731
            with Editor(bundle, backend=backend, fused_step=fused) as editor:
                edit(editor, on_step=on_step, steps=4)
                edit(editor, on_step=on_step, steps=4)
            return seen

        for (ours, our_preview), (theirs, their_preview) in zip(states("tensorrt"), states("ort-cpu"), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
            assert np.abs(our_preview.astype(int) - their_preview).max() <= 1

    def test_graphs_can_be_turned_off(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt") as editor:
            with_graphs = [edit(editor) for _ in range(2)][1]
            assert driver.counters().graph_launches > 0
        driver.reset()
        with Editor(bundle, backend="tensorrt", cuda_graphs=False) as editor:
            assert_close([edit(editor) for _ in range(2)][1], with_graphs)
            assert driver.counters().graph_launches == driver.counters().captures == 0

    def test_threads_take_turns_on_one_device(self, driver: SimulatedDriver, bundle: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from pixrt import Editor

        with Editor(bundle, backend="tensorrt") as editor:
            expected = [edit(editor, seed=[seed, 9]) for seed in range(3)]
            with ThreadPoolExecutor(3) as pool:
                for ours, theirs in zip(pool.map(lambda s: edit(editor, seed=[s, 9]), range(3)), expected, strict=True):
                    assert_close(ours, theirs)


def spent(driver: SimulatedDriver, editor: Any, steps: int, **parameters: Any) -> Counters:
    before = driver.counters()
    edit(editor, steps=steps, **parameters)
    return driver.counters() - before


class TestTraffic:
    """What one more step costs: an edit of 9 steps less one of 5, over 4; all that is not per step falls out."""

    def per_step(self, driver: SimulatedDriver, bundle: Path, fused: bool) -> dict[str, float]:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt", fused_step=fused) as editor:
            for steps in (5, 9) * 2:
                edit(editor, steps=steps)
            few, many = (spent(driver, editor, steps) for steps in (5, 9))
        return {
            name: (getattr(many, name) - getattr(few, name)) / 4
            for name in ("htod_bytes", "dtoh_bytes", "stream_syncs", "context_syncs", "device_allocations")
        } | {"pinned_allocations": (many.pinned_allocations - few.pinned_allocations) / 4}

    def test_nothing_crosses_in_a_fused_step(self, driver: SimulatedDriver, bundle: Path) -> None:
        costs = self.per_step(driver, bundle, True)
        # Tables and noise are uploaded before the loop, in one piece each: bytes per step, but none of them inside it.
        latents = 2 * 4 * 6 * 8 * 4
        rows, pictures = 2 * 3, 2
        tables = rows * 4 + pictures * (12 + 3 + 3) * 4
        assert tables <= 1024
        assert costs.pop("htod_bytes") == tables + latents
        assert costs == dict.fromkeys(costs, 0)

    def test_the_noisy_latents_alone_cross_in_an_unfused_step(self, driver: SimulatedDriver, bundle: Path) -> None:
        costs = self.per_step(driver, bundle, False)
        noisy = 3 * 2 * 4 * 6 * 8 * 4
        assert costs.pop("htod_bytes") == noisy + 3 * 2 * 4  # and a timestep per row
        assert costs.pop("dtoh_bytes") == noisy
        assert costs.pop("stream_syncs") == 1
        assert costs == dict.fromkeys(costs, 0)

    def test_inside_the_fused_loop(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor

        called: list[Counters] = []
        done: list[Counters] = []
        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            device: Any = editor._backend.device  # type: ignore[attr-defined]

            def settled(info: Any) -> None:  # copies are counted when they are done
                device.run(device.synchronize)
                done.append(driver.counters())

            for on_step in (None, None, lambda info: called.append(driver.counters()), settled):
                edit(editor, steps=4, on_step=on_step)
        for before, after in pairwise(called):
            step = after - before
            assert (step.stream_syncs, step.context_syncs, step.event_syncs, step.graph_launches) == (0, 0, 0, 1)
            assert step.device_allocations == step.pinned_allocations == 0
        for before, after in pairwise(done):
            step = after - before
            assert (step.htod_bytes, step.dtoh_bytes) == (0, 0)
            assert step.dtod_bytes > 0

    def test_a_known_picture_and_text_are_on_the_device_already(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            edit(editor)
            edit(editor)
            same = spent(driver, editor, 3, seed=[8, 9])
            fresh = spent(driver, editor, 3, texts=["another text", TEXTS[1]])
        context, tokens = 77 * 24 * 4, 77 * 8
        assert fresh.htod_bytes - same.htod_bytes == context + tokens
        assert same.device_allocations == 0

    @pytest.mark.parametrize("fused", [True, False])
    def test_a_thousand_edits_leave_nothing(self, driver: SimulatedDriver, bundle: Path, fused: bool) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt", fused_step=fused) as editor:

            def one(number: int) -> None:
                edit(editor, [picture(number % 200)], [f"text {number}"], seed=number, steps=1, scheduler="ddim")

            for number in range(300):  # until every cache is full
                one(number)
            before = driver.counters()
            for number in range(1000):
                one(1000 + number)
            after = driver.counters()
        assert after.live_device_bytes == before.live_device_bytes
        assert after.live_pinned_bytes == before.live_pinned_bytes
        assert after.live_graph_execs == before.live_graph_execs


class TestFailures:
    @pytest.mark.parametrize("nth", [1, 2, 5, 9, 14, 20, 30])
    def test_out_of_memory_at_any_allocation(self, driver: SimulatedDriver, bundle: Path, nth: int) -> None:
        from pixrt import Editor
        from pixrt.errors import BackendError

        with Editor(bundle, backend="tensorrt") as editor:
            driver.fail("cuMemAlloc", nth, times=4)  # pycuda and the device try again once each
            with pytest.raises(BackendError, match=r"ran out of memory: .* MiB are free"):
                edit(editor)
            assert driver.log() == []
            driver.reset()
            assert_close(edit(editor), edit(editor))  # the next edit works

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
        from pixrt.fused import draw_noise

        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            expected = edit(editor, scheduler="dpmpp_2m")
            with monkeypatch.context() as broken:
                broken.setattr("pixrt.fused.draw_noise", lambda *given: draw_noise(*given) * np.float32(np.nan))
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


class TestEngines:
    def test_arrays_in_ordinary_memory_can_be_bound(self, driver: SimulatedDriver, bundle: Path) -> None:
        import simulated_tensorrt
        from pixrt.backends.tensorrt import TensorRtBackend
        from pixrt.spec import Component
        from pixrt.store import open_bundle

        opened, backend = open_bundle(bundle), TensorRtBackend("tensorrt", simulated_tensorrt)
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

    def test_a_shape_that_no_engine_takes(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor
        from pixrt.errors import EngineError

        with (
            Editor(bundle, backend="tensorrt") as editor,
            pytest.raises(EngineError, match=r"no engine of vae_encoder takes sample of 1 x 3 x 96 x 96; there are"),
        ):
            edit(editor, [picture(3, 96, 96)], ["x"], seed=1, resolution=96)

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
        with (
            Editor(bundle, backend="tensorrt", loras=[(lora, 1.0)]) as editor,
            pytest.raises(EngineError, match="was not built with --refittable"),
        ):
            edit(editor)

    def test_stripped_plans_take_their_weights_from_the_bundle(
        self, driver: SimulatedDriver, bundle: Path, exports: Exports, tmp_path: Path
    ) -> None:
        from pixrt import Editor
        from pixrt_engines import Knobs
        from simulated_engines import with_engines

        folder = with_engines(
            exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), knobs=Knobs(stripped=True)
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
        with (
            Editor(bundle, backend="tensorrt", weight_budget_mib=1) as editor,
            pytest.raises(EngineError, match="not built with --weight-streaming"),
        ):
            edit(editor)

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
