"""The device's thread, memory and captured graphs, on the simulated driver with the real pycuda and cuda-bindings."""

import gc
import re
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from simulated_cuda import SimulatedDriver, load_driver

pytestmark = pytest.mark.simulated


@pytest.fixture
def driver() -> SimulatedDriver:
    loaded = load_driver()
    loaded.reset()
    return loaded


@pytest.fixture
def device(driver: SimulatedDriver) -> Iterator[Any]:
    from pixrt.backends.cuda.device import Device

    before = driver.counters()
    made = Device()
    yield made
    gc.collect()
    made.close()
    left = driver.counters() - before
    assert (left.live_device_bytes, left.live_pinned_bytes, left.live_streams, left.live_contexts) == (0, 0, 0, 0)
    assert (left.live_graphs, left.live_graph_execs) == (0, 0)
    assert driver.log() == []


def test_bytes_go_there_and_back(device: Any) -> None:
    given = device.run(device.pinned, (3, 4), np.float32)
    assert not given.any()
    assert device.is_pinned(given)
    assert device.is_pinned(given[1:].reshape(-1)[2:])
    assert not device.is_pinned(np.zeros(3))
    given[...] = np.arange(12).reshape(3, 4)
    memory = device.run(device.allocate, given.nbytes)
    back = device.run(device.pinned, (3, 4), np.float32)
    device.run(device.upload, memory, given)
    device.run(device.download, back, memory)
    assert not back.any()  # it is late
    device.run(device.synchronize)
    np.testing.assert_array_equal(back, given)


def test_the_first_part_of_every_row(device: Any) -> None:
    given = device.run(device.pinned, (3, 4), np.float32)
    given[...] = np.arange(12).reshape(3, 4)
    memory, back = device.run(device.allocate, given.nbytes), device.run(device.pinned, (3, 4), np.float32)
    device.run(device.fill_zero, memory)
    device.run(device.run, device.strided_upload(memory, given, 8))
    device.run(device.download, back, memory)
    device.run(device.synchronize)
    np.testing.assert_array_equal(back[:, :2], given[:, :2])
    assert not back[:, 2:].any()


def test_a_graph_repeats_what_was_captured(device: Any, driver: SimulatedDriver) -> None:
    source, target = device.run(device.allocate, 16), device.run(device.allocate, 16)
    given, back = device.run(device.pinned, (4,), np.float32), device.run(device.pinned, (4,), np.float32)

    def work() -> None:
        device.upload(source, given)
        device.copy(target, source, 16)
        device.download(back, target)

    graph = device.run(device.capture, work)
    assert driver.counters().queued_operations == 0  # capturing does nothing
    for value in (1, 2):
        given[...] = value
        device.run(graph.launch)
        device.run(device.synchronize)
        assert (back == value).all()


def test_a_capture_that_fails_leaves_the_stream_usable(device: Any, driver: SimulatedDriver) -> None:
    from pixrt.errors import BackendError

    def spoilt() -> None:
        device.synchronize()

    with pytest.raises(BackendError):
        device.run(device.capture, spoilt)
    assert driver.log()
    driver.reset()
    memory, back = device.run(device.allocate, 4), device.run(device.pinned, (4,), np.uint8)
    device.run(device.fill_zero, memory)
    device.run(device.download, back, memory)
    device.run(device.synchronize)
    assert not back.any()


def test_any_thread_may_call_and_drop(device: Any, driver: SimulatedDriver) -> None:
    def one(number: int) -> float:
        array = device.run(device.pinned, (1000,), np.float32)
        memory = device.run(device.allocate, array.nbytes)
        array[...] = number
        device.run(device.upload, memory, array)
        device.run(device.synchronize)
        return float(array[0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(64))) == list(range(64))
    gc.collect()
    device.run(device.synchronize)  # what was dropped elsewhere is freed at the next call
    counters = driver.counters()
    assert (counters.live_device_bytes, counters.live_pinned_bytes) == (0, 0)


def test_held_arrays_are_uploaded_once_and_kept(device: Any, driver: SimulatedDriver) -> None:
    from pixrt.backends.cuda.held import HELD_KEPT, HeldArrays

    held = HeldArrays(device)
    array, other = np.arange(6, dtype=np.float32), np.arange(6, dtype=np.float32)
    alive, converted = weakref.ref(array), weakref.ref(other)
    device.run(held.get, other, np.float16)
    memory = device.run(held.get, array, np.float32)
    half = device.run(held.get, array, np.float16)
    assert (memory.bytes, half.bytes) == (24, 12)
    assert device.run(held.get, array, np.float32) is memory
    del array, other
    assert alive() is not None
    assert converted() is not None
    for number in range(HELD_KEPT):
        device.run(held.get, np.full(4, number), np.int32)
    assert alive() is converted() is None
    held.clear()


def test_what_the_driver_sees(driver: SimulatedDriver) -> None:
    from pixrt.backends.cuda.device import describe_devices

    assert re.fullmatch(r"driver for CUDA 13\.0: Simulated CUDA device \(sm\d\d, 8192 MiB\)", describe_devices())


def test_without_a_device(driver: SimulatedDriver) -> None:
    from pixrt.backends.cuda.device import Device
    from pixrt.errors import BackendError

    with pytest.raises(BackendError, match="there is no usable CUDA device 5"):
        Device(5)
