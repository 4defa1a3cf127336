"""The simulated CUDA driver, and a bundle with engines that the simulated library runs. A process of its own."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exported import Exports


@pytest.fixture(scope="session")
def loaded() -> Any:
    """The simulated CUDA driver. In a process of its own."""
    from simulated_cuda import load_driver

    return load_driver()


@pytest.fixture
def driver(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
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
def bundle(loaded: Any, exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with engines that the simulated library runs."""
    from simulated_edits import SIZE
    from simulated_engines import with_engines

    folder = tmp_path_factory.mktemp("engines") / "bundle"
    return with_engines(exports.bundle("sd1", "fp32"), folder, sizes=(SIZE, (64, 64)), batch=(1, 3))
