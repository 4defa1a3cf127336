"""The TensorRT backend over the simulated driver and runtime: contract, parity, and what travels."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import Contract
from simulated_cuda import Counters, SimulatedDriver
from simulated_edits import MASK, SIZE, TEXTS, assert_close, edit, mixed, picture

pytestmark = [pytest.mark.simulated, pytest.mark.torch]


class TestContract(Contract):
    @pytest.fixture
    def engine(self, driver: SimulatedDriver, tmp_path: Path) -> Iterator[Any]:
        import simulated_tensorrt
        from pixrt.backends.tensorrt.backend import TensorRtBackend
        from pixrt.bundles.engine_spec import ShapeProfile, SizeRange
        from pixrt.bundles.manifest import Component
        from pixrt.bundles.store import open_bundle
        from simulated_engines import with_engines

        profile = ShapeProfile({"latent_sample": SizeRange((1, 4, 3, 4), (1, 4, 6, 5), (3, 4, 6, 5))})
        component = Component.VAE_DECODER
        built_in = open_bundle("shapes", verify=False).folder
        bundle = open_bundle(with_engines(built_in, tmp_path / "b", components=(component,), profile=profile))
        backend = TensorRtBackend("tensorrt", "tensorrt", simulated_tensorrt)
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
            {"mask": MASK},
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

    @pytest.mark.parametrize("fused", [True, False])
    def test_other_tasks(self, driver: SimulatedDriver, bundle: Path, fused: bool) -> None:
        """Text-to-image, a style, and an edit after them, whose states nothing may hold any more."""
        from pixrt import Editor

        def made(backend: Any) -> list[Any]:
            with Editor(bundle, backend=backend, fused_step=fused) as editor:
                common: Any = {"steps": 4, "seed": 3, "scheduler": "dpmpp_2m"}
                results = [
                    editor.generate("a cat", width=SIZE[0], height=SIZE[1], **common),
                    editor.style(picture(60), picture(200, 64, 64), **common),
                    editor.edit(picture(90), "make it winter", mask=MASK, **common),
                    editor.edit(picture(90), "make it winter", **common),
                ]
            return [np.asarray(result.image).astype(int) for result in results]

        assert_close(made("tensorrt"), made("ort-cpu"))

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


class TestCompany:
    """Pictures join and leave between any two steps; each is what it is alone on the CPU, within 1 of 255."""

    @pytest.mark.parametrize("fused", [True, False])
    def test_joining_and_leaving(self, driver: SimulatedDriver, bundle: Path, fused: bool) -> None:
        from pixrt import Editor, Failed, Made, Stepped

        with Editor(bundle, backend="ort-cpu", threads=1) as plain:
            expected = [np.asarray(r.image).astype(int) for each in mixed(plain) for r in plain.run([each])]
        with Editor(bundle, backend="tensorrt", fused_step=fused, max_batch=3) as editor:
            for victim in (None, 0, 3):
                ended = {}
                with editor.events(mixed(editor)) as run:
                    for event in run:
                        if isinstance(event, Stepped):
                            if event.index == victim and event.step == 2:
                                run.cancel(event.index)
                        else:
                            ended[event.index] = event
                assert sorted(ended) == list(range(6))
                for number, event in ended.items():
                    assert isinstance(event, Failed if number == victim else Made)
                    if isinstance(event, Made):
                        assert_close([np.asarray(event.result.image).astype(int)], [expected[number]])

    def test_captured_graphs_stay_valid_when_slots_change(self, driver: SimulatedDriver, bundle: Path) -> None:
        """One graph for each number of rows, whoever comes and goes; and no more of them the second time."""
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt", fused_step=True, max_batch=3) as editor:
            for _ in range(3):
                list(editor.run(mixed(editor)))
            before = driver.counters()
            list(editor.run(mixed(editor)))
            spent = driver.counters() - before
        assert spent.captures == 0
        assert spent.graph_launches > 0
        assert spent.device_allocations == 0


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
        from pixrt.core.fused import STEP_TABLE

        costs = self.per_step(driver, bundle, True)
        # Tables and noise are uploaded when a picture joins, in one piece each: bytes per step, but none in the loop.
        pictures, latents = 2, 2 * 4 * 6 * 8 * 4
        tables = pictures * len(STEP_TABLE) * 4
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

    def test_inside_the_fused_loop(
        self, driver: SimulatedDriver, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step sends which rows of the tables to take, 4 bytes a slot, in the commands themselves."""
        from pixrt import Editor
        from pixrt.core.fused import FusedPool

        original, seen, settles = FusedPool.step, list[Counters](), False

        def counting(self: FusedPool, slots: Any = None) -> list[int]:
            ended = original(self, slots)
            if settles:
                self.wait()  # copies are counted when they are done
            seen.append(driver.counters())
            return ended

        monkeypatch.setattr(FusedPool, "step", counting)
        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            for _ in range(2):
                edit(editor, steps=4)
            seen.clear()
            edit(editor, steps=4)
            for before, after in pairwise(seen):
                step = after - before
                assert (step.stream_syncs, step.context_syncs, step.event_syncs, step.graph_launches) == (0, 0, 0, 1)
                assert step.device_allocations == step.pinned_allocations == 0
            seen.clear()
            settles = True
            edit(editor, steps=4)
        for before, after in pairwise(seen):
            step = after - before
            assert (step.htod_bytes, step.dtoh_bytes) == (0, 0)
            assert step.dtod_bytes > 0
            assert step.memsets == 2

    def test_a_step_is_told_of_when_it_has_run(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor

        left: list[int] = []
        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            for _ in range(3):
                edit(editor, steps=5, on_step=lambda info: left.append(driver.counters().queued_operations))
        assert len(left) == 3 * 2 * 5
        assert not any(left)

    def test_a_known_picture_and_text_are_on_the_device_already(self, driver: SimulatedDriver, bundle: Path) -> None:
        from pixrt import Editor

        with Editor(bundle, backend="tensorrt", fused_step=True) as editor:
            edit(editor)
            edit(editor)
            same = spent(driver, editor, 3, seed=[8, 9])
            fresh = spent(driver, editor, 3, texts=["another text", TEXTS[1]])
        context, tokens, embeddings = 77 * 24 * 4, 77 * 8, 128 * 24 * 4
        assert fresh.htod_bytes - same.htod_bytes == context + tokens + embeddings
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
