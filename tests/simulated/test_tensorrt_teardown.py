"""In which order a device's objects go: graphs and contexts, kernels, engines, the runtime; also where things fail.

The simulated library notes every destruction, and raises where something goes that is still in use, or in another
thread than the device's; the driver's fixture fails the test then.
"""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exported import Exports
from simulated_cuda import SimulatedDriver
from simulated_edits import SIZE, assert_close, edit, picture

pytestmark = [pytest.mark.simulated, pytest.mark.torch]
ORDER = ["graph", "context", "cache", "engine", "runtime"]


@pytest.fixture
def destroyed(driver: SimulatedDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What is destroyed from here on, graphs too; TensorRT-RTX is there."""
    import simulated_rtx
    import simulated_tensorrt
    from pixrt.backends.cuda import device as cuda

    free = cuda._Instance.free

    def freed(self: Any) -> None:
        noted.append("graph")
        free(self)

    noted = simulated_tensorrt.destroyed
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", simulated_rtx)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda._Instance, "free", freed)
    noted.clear()
    yield noted
    noted.clear()


@pytest.fixture
def folder(destroyed: list[str], exports: Exports, tmp_path: Path) -> Path:
    from simulated_engines import with_engines

    return with_engines(
        exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE,), batch=(1, 2), library="tensorrt-rtx"
    )


def assert_in_order(destroyed: list[str], kinds: list[str]) -> None:
    """Each network's graph, contexts, cache and engine in this order, the runtime last."""
    assert set(destroyed) == set(kinds)
    waiting = dict.fromkeys(kinds, 0)
    for kind in destroyed:
        waiting[kind] += 1
        if kind == "engine" and "cache" in kinds:
            assert waiting["cache"] >= waiting["engine"]  # an engine's cache went before it
        if kind == "cache":
            assert waiting["context"] >= waiting["cache"]


def test_an_edit_and_its_end(destroyed: list[str], folder: Path) -> None:
    from pixrt import Editor

    with Editor(folder, backend="tensorrt-rtx", low_memory=False) as editor:
        for _ in range(3):
            edit(editor)
    del editor
    gc.collect()
    assert_in_order(destroyed, ORDER)
    assert destroyed.index("runtime") == len(destroyed) - 1
    assert destroyed.count("engine") == destroyed.count("cache") == 4


def test_a_call_that_outlives_its_engine_and_the_backend(
    destroyed: list[str], driver: SimulatedDriver, folder: Path
) -> None:
    """It is what holds the plan then, and with it the runtime."""
    import numpy as np

    import simulated_rtx
    from pixrt.backends.tensorrt.backend import TensorRtBackend
    from pixrt.bundles.manifest import Component
    from pixrt.bundles.store import open_bundle

    backend = TensorRtBackend("tensorrt-rtx", "tensorrt_rtx", simulated_rtx)
    engine = backend.open(open_bundle(folder), Component.VAE_DECODER)
    given, made = np.zeros((1, 4, SIZE[1] // 8, SIZE[0] // 8), np.float32), np.zeros((1, 3, *SIZE[::-1]), np.float32)
    run = engine.bind({engine.inputs[0].name: given, engine.outputs[0].name: made})
    for _ in range(2):  # as it is, captured
        run()
    engine.close()
    backend.context.device.release(backend._drop_runtime)
    assert destroyed == []
    del run, engine
    backend.close()
    assert destroyed == ORDER


@pytest.mark.parametrize(
    ("where", "kinds"),
    [
        ("_check_tensors", ["engine", "runtime"]),
        ("_limit_weights", ["engine", "runtime"]),
        ("scratch_bytes", ["context", "cache", "engine", "runtime"]),
    ],
)
def test_a_plan_that_fails_halfway(
    destroyed: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, kinds: list[str]
) -> None:
    from pixrt import Editor
    from pixrt.backends.tensorrt.plan import LoadedPlan
    from pixrt.errors import EngineError

    def fail(*given: Any) -> Any:
        raise EngineError("it fails here", remedy="none")

    monkeypatch.setattr(LoadedPlan, where, fail)
    with Editor(folder, backend="tensorrt-rtx") as editor, pytest.raises(EngineError, match="it fails here") as caught:
        edit(editor, [picture(9)], ["x"], seed=1)
    del editor, caught
    gc.collect()
    assert_in_order(destroyed, kinds)


def test_memory_that_runs_out_between_a_context_and_its_run(
    destroyed: list[str], driver: SimulatedDriver, folder: Path
) -> None:
    from pixrt import Editor
    from pixrt.errors import OutOfMemory

    with Editor(folder, backend="tensorrt-rtx") as editor:
        expected = edit(editor)
    for nth in (2, 6, 12):
        with Editor(folder, backend="tensorrt-rtx") as editor:
            driver.fail("cuMemAlloc", nth, times=4)
            with pytest.raises(OutOfMemory):
                edit(editor)
            driver.reset()
            assert_close(edit(editor), expected)
    del editor
    gc.collect()
    assert_in_order(destroyed, ORDER)
