"""ONNX Runtime's CUDA provider over the simulated driver: contract, pictures, company, and what travels and waits."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import Contract
from exported import Exports
from simulated_cuda import Counters, SimulatedDriver
from simulated_edits import MASK, TEXTS, assert_close, edit, mixed, picture

pytestmark = [pytest.mark.simulated, pytest.mark.torch]


@pytest.fixture
def provider(driver: SimulatedDriver, monkeypatch: pytest.MonkeyPatch) -> Any:
    from simulated_ort import SimulatedOrt

    return SimulatedOrt(monkeypatch)


@pytest.fixture(scope="session")
def plain(loaded: Any, exports: Exports) -> Path:
    return exports.bundle("sd1", "fp32")


class TestContract(Contract):
    @pytest.fixture
    def engine(self, provider: Any) -> Iterator[Any]:
        from pixrt.backends.ort.device import OrtCudaBackend
        from pixrt.bundles.manifest import Component
        from pixrt.bundles.store import open_bundle

        backend = OrtCudaBackend("ort-cuda", None, {})
        engine = backend.open(open_bundle("shapes", verify=False), Component.VAE_DECODER)
        yield engine
        engine.close()
        backend.close()


class TestParity:
    @pytest.mark.parametrize("graphs", [True, False])
    @pytest.mark.parametrize("fused", [True, False])
    def test_pictures_are_those_of_the_cpu(self, provider: Any, plain: Path, fused: bool, graphs: bool) -> None:
        """Three times each: as it is, captured, launched. Shapes, rows, texts and masks change between them."""
        from pixrt import Editor

        edits: list[dict[str, Any]] = [
            {},
            {"pictures": [picture(90), picture(30)], "scheduler": "dpmpp_2m"},
            {"pictures": [picture(120, 64, 64)], "texts": TEXTS[:1], "seed": 7},
            {"image_guidance_scale": 1.0},
            {"mask": MASK, "scheduler": "unipc"},
        ]
        with (
            Editor(plain, backend="ort-cpu", threads=1) as cpu,
            Editor(plain, backend="ort-cuda", fused_step=fused, cuda_graphs=graphs, max_batch=2) as editor,
        ):
            assert editor.backend == "ort-cuda"
            for parameters in edits:
                expected = edit(cpu, **parameters)
                for _ in range(3):
                    assert_close(edit(editor, **parameters), expected)

    def test_the_fused_step_is_preferred(self, provider: Any, plain: Path) -> None:
        from pixrt import Editor

        with Editor(plain, backend="ort-cuda") as editor:
            edit(editor)
            files = [each.name for each in editor.memory]
        assert any("unet_step" in name for name in files)
        assert not any("unet.onnx" in name for name in files)


class TestCompany:
    def test_joining_and_leaving(self, provider: Any, driver: SimulatedDriver, plain: Path) -> None:
        from pixrt import Editor, Failed, Made, Stepped

        with Editor(plain, backend="ort-cpu", threads=1) as cpu:
            expected = [np.asarray(r.image).astype(int) for each in mixed(cpu) for r in cpu.run([each])]
        with Editor(plain, backend="ort-cuda", max_batch=3) as editor:
            for victim in (None, 3):
                ended = {}
                with editor.events(mixed(editor)) as run:
                    for event in run:
                        if isinstance(event, Stepped):
                            if event.index == victim and event.step == 2:
                                run.cancel(event.index)
                        else:
                            ended[event.index] = event
                for number, event in ended.items():
                    assert isinstance(event, Failed if number == victim else Made)
                    if isinstance(event, Made):
                        assert_close([np.asarray(event.result.image).astype(int)], [expected[number]])
            before = driver.counters()
            list(editor.run(mixed(editor)))
            spent = driver.counters() - before
        assert (spent.captures, spent.device_allocations) == (0, 0)
        assert spent.graph_launches > 0


@pytest.mark.parametrize("graphs", [True, False])
def test_inside_the_loop(
    provider: Any, driver: SimulatedDriver, plain: Path, graphs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 bytes a slot, in the commands themselves. A replay is waited for by the provider itself, nothing else is."""
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
    with Editor(plain, backend="ort-cuda", cuda_graphs=graphs) as editor:
        for _ in range(2):
            edit(editor, steps=4)
        seen.clear()
        edit(editor, steps=4)
        for before, after in pairwise(seen):
            step = after - before
            assert (step.stream_syncs, step.context_syncs, step.event_syncs) == (int(graphs), 0, 0)
            assert step.graph_launches == int(graphs)
            assert step.device_allocations == step.pinned_allocations == 0
        seen.clear()
        settles = True
        edit(editor, steps=4)
    for before, after in pairwise(seen):
        step = after - before
        assert (step.htod_bytes, step.dtoh_bytes) == (0, 0)
        assert step.memsets == 2


def test_graphs_that_the_provider_refuses(
    driver: SimulatedDriver, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixrt import Editor
    from simulated_ort import SimulatedOrt

    provider = SimulatedOrt(monkeypatch, captures=False)
    with Editor(plain, backend="ort-cpu", threads=1) as cpu:
        expected = edit(cpu)
    with Editor(plain, backend="ort-cuda") as editor:
        with pytest.warns(UserWarning, match="no CUDA graph can be captured.*cannot use the graph capture"):
            first = edit(editor)
        for made in (first, edit(editor), edit(editor)):
            assert_close(made, expected)
    assert driver.counters().graph_launches == 0
    assert "enable_cuda_graph" not in provider.sessions[-1]


def test_so_many_graphs_and_no_more(
    provider: Any, driver: SimulatedDriver, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session keeps its graphs until it is closed, those too whose arrays have gone."""
    from pixrt import Editor

    monkeypatch.setattr("pixrt.backends.ort.device.MOST_GRAPHS", 1)
    with Editor(plain, backend="ort-cpu", threads=1) as cpu, Editor(plain, backend="ort-cuda") as editor:
        for side in (64, 48, 64):
            given: dict[str, Any] = {"pictures": [picture(120, side, 64)], "texts": TEXTS[:1], "seed": 7}
            for _ in range(3):
                assert_close(edit(editor, **given), edit(cpu, **given))
        assert driver.counters().live_graph_execs <= len(editor.memory)


def test_memory_and_its_end(provider: Any, driver: SimulatedDriver, plain: Path) -> None:
    from pixrt import Editor
    from pixrt.errors import OutOfMemory
    from simulated_ort import ARENA

    with Editor(plain, backend="ort-cuda") as editor:
        expected = edit(editor)
        assert len(editor.memory) == 4
        for each in editor.memory:
            assert each.weights_bytes == ARENA
            assert each.scratch_bytes >= ARENA
            assert each.array_bytes > 0
    with Editor(plain, backend="ort-cuda") as editor:
        driver.fail("cuMemAlloc", 9, times=6)
        with pytest.raises(OutOfMemory):
            edit(editor)
        driver.reset()
        assert_close(edit(editor), expected)


def test_without_the_bindings_arrays_are_the_hosts(
    driver: SimulatedDriver, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixrt.backends.registry import open_backend
    from pixrt.bundles.store import open_bundle
    from simulated_ort import SimulatedOrt

    SimulatedOrt(monkeypatch)
    monkeypatch.setitem(sys.modules, "pixrt.backends.ort.device", None)
    backend = open_backend("ort-cuda", open_bundle(plain)).backend
    assert "cross to the device at every step without pycuda" in backend.describe()
    assert not backend.prefers_fused_step
