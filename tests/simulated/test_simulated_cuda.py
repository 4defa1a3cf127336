"""The simulated CUDA driver under the real pycuda: late, strict about memory, counted, and failing when told to."""

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from simulated_cuda import DEVICE_UNAVAILABLE, SimulatedDriver, load_driver

pytestmark = pytest.mark.simulated

NON_BLOCKING = 1
BYTES = 16


@pytest.fixture
def driver() -> Iterator[SimulatedDriver]:
    driver = load_driver()
    driver.reset()
    yield driver
    driver.reset()


@pytest.fixture
def cuda(driver: SimulatedDriver) -> Iterator[Any]:
    """`pycuda.driver` in the primary context."""
    import pycuda.driver as cuda

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    yield cuda
    driver.reset()
    gc.collect()
    context.pop()
    context.detach()


def pinned(cuda: Any, value: float | None = None) -> Any:
    array = cuda.pagelocked_empty(4, np.float32)
    if value is not None:
        array[:] = value
    return array


def test_the_device(cuda: Any) -> None:
    device = cuda.Context.get_device()
    assert (device.name(), device.compute_capability()) == ("Simulated CUDA device", (8, 9))
    assert device.get_attribute(cuda.device_attribute.WARP_SIZE) == 32
    assert device.total_memory() == cuda.mem_get_info()[1] == 8 << 30


def test_work_is_late(cuda: Any) -> None:
    stream, memory = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(BYTES)
    source, target = pinned(cuda, 1), pinned(cuda)
    cuda.memcpy_htod_async(memory, source, stream)
    cuda.memcpy_dtoh_async(target, memory, stream)
    assert np.isnan(target).all()  # poison
    stream.synchronize()
    assert (target == 1).all()


def test_a_pinned_buffer_that_is_rewritten_sends_what_is_new(cuda: Any) -> None:
    stream, memory = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(BYTES)
    source, target = pinned(cuda, 1), np.zeros(4, np.float32)
    cuda.memcpy_htod_async(memory, source, stream)
    source[:] = 2
    stream.synchronize()
    cuda.memcpy_dtoh(target, memory)
    assert (target == 2).all()


def test_events_order_streams_and_measure(cuda: Any) -> None:
    first, second, memory = cuda.Stream(NON_BLOCKING), cuda.Stream(NON_BLOCKING), cuda.mem_alloc(BYTES)
    source, target = pinned(cuda, 3), pinned(cuda)
    start, end = cuda.Event(), cuda.Event()
    start.record(first)
    cuda.memcpy_htod_async(memory, source, first)
    end.record(first)
    second.wait_for_event(end)
    cuda.memcpy_dtoh_async(target, memory, second)
    assert [end.query() for _ in range(3)] == [False, False, True]
    assert start.time_till(end) >= 0
    assert np.isnan(target).all()
    second.synchronize()
    assert (target == 3).all()


def test_rows_with_a_pitch(cuda: Any) -> None:
    memory, pitch = cuda.mem_alloc_pitch(3 * 4, 2, 4)
    matrix, back = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((2, 3), np.float32)
    assert pitch >= 512
    up = cuda.Memcpy2D()
    up.set_src_host(matrix)
    up.set_dst_device(int(memory))
    up.width_in_bytes = up.src_pitch = 3 * 4
    up.dst_pitch, up.height = pitch, 2
    up(aligned=True)
    down = cuda.Memcpy2D()
    down.set_src_device(int(memory))
    down.set_dst_host(back)
    down.width_in_bytes = down.dst_pitch = 3 * 4
    down.src_pitch, down.height = pitch, 2
    down(aligned=True)
    assert (back == matrix).all()


def test_fills_and_copies_within_the_device(cuda: Any, driver: SimulatedDriver) -> None:
    stream, first, second = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(BYTES), cuda.mem_alloc(BYTES)
    target = pinned(cuda)
    cuda.memset_d32_async(first, 0x40400000, 4, stream)
    cuda.memcpy_dtod_async(second, first, BYTES, stream)
    cuda.memcpy_dtoh_async(target, second, stream)
    stream.synchronize()
    assert (target == 3).all()
    counted = driver.counters()
    assert (counted.memsets, counted.dtod_copies, counted.dtod_bytes) == (1, 1, BYTES)


def test_memory_is_checked(cuda: Any, driver: SimulatedDriver) -> None:
    memory, small = cuda.mem_alloc(BYTES), np.zeros(4, np.float32)
    address = int(memory)
    assert driver.is_device(address + BYTES - 1)
    with pytest.raises(cuda.LogicError):
        cuda.memcpy_htod(address, np.zeros(5, np.float32))
    with pytest.raises(cuda.LogicError):
        cuda.memcpy_htod(small.ctypes.data, small)
    memory.free()
    assert not driver.is_device(address)
    with pytest.raises(cuda.LogicError):
        cuda.memcpy_dtoh(small, address)
    overrun, host, freed = driver.log()
    assert "cross the end of a block of 16 bytes" in overrun
    assert "is host memory" in host
    assert "lie in no live block of device memory" in freed


def test_memory_freed_under_queued_work_is_a_fault(cuda: Any, driver: SimulatedDriver) -> None:
    stream, memory, source = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(BYTES), pinned(cuda, 1)
    cuda.memcpy_htod_async(memory, source, stream)
    memory.free()
    with pytest.raises(cuda.Error, match="illegal memory access"):
        stream.synchronize()
    with pytest.raises(cuda.Error, match="illegal memory access"):
        cuda.mem_alloc(BYTES)


def test_counters_are_exact(cuda: Any, driver: SimulatedDriver) -> None:
    before = driver.counters()
    stream, event, memory, other = cuda.Stream(), cuda.Event(), cuda.mem_alloc(BYTES), cuda.mem_alloc(100)
    source = pinned(cuda, 1)
    cuda.memcpy_htod_async(memory, source, stream)
    event.record(stream)
    event.synchronize()
    cuda.memcpy_dtoh(source, memory)
    cuda.Context.synchronize()
    other.free()
    change = driver.counters() - before
    assert (change.device_allocations, change.device_frees, change.live_device_bytes) == (2, 1, BYTES)
    assert driver.counters().peak_device_bytes == before.live_device_bytes + BYTES + 100
    assert (change.pinned_allocations, change.live_pinned_bytes) == (1, BYTES)
    assert (change.live_streams, change.live_events, change.live_contexts) == (1, 1, 0)
    assert (change.htod_copies, change.htod_bytes, change.dtoh_copies, change.dtoh_bytes) == (1, BYTES, 1, BYTES)
    assert (change.stream_syncs, change.event_syncs, change.context_syncs) == (0, 1, 1)
    assert (change.pageable_copies, change.queued_operations) == (0, 0)
    assert driver.calls("cuMemAlloc") == 2


def test_memory_runs_out_where_told(cuda: Any, driver: SimulatedDriver) -> None:
    driver.fail("cuMemAlloc", nth=3, times=2)
    kept = [cuda.mem_alloc(BYTES) for _ in range(2)]
    with pytest.raises(cuda.MemoryError):
        cuda.mem_alloc(BYTES)
    kept.append(cuda.mem_alloc(BYTES))
    driver.set_total_bytes(driver.counters().live_device_bytes + 100)
    with pytest.raises(cuda.MemoryError):
        cuda.mem_alloc(101)
    assert cuda.mem_get_info()[0] == 100
    driver.set_total_bytes(8 << 30)
    assert driver.counters().device_allocations == len(kept)


def test_a_lost_device_stays_lost(cuda: Any, driver: SimulatedDriver) -> None:
    stream, memory = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(BYTES)
    before = driver.counters()
    driver.lose("cuStreamSynchronize", nth=2, code=DEVICE_UNAVAILABLE)
    stream.synchronize()
    for call in (stream.synchronize, stream.synchronize, cuda.mem_get_info, lambda: cuda.mem_alloc(BYTES)):
        with pytest.raises(cuda.Error, match="busy or unavailable"):
            call()
    memory.free()  # pycuda only warns of a failed clean-up
    assert (driver.counters() - before).live_device_bytes == -BYTES
    driver.reset()
    stream.synchronize()


def test_nothing_leaks(cuda: Any, driver: SimulatedDriver) -> None:
    before = driver.counters()
    addresses = set()
    for _ in range(1000):
        memory, buffer = cuda.mem_alloc(BYTES), cuda.pagelocked_empty(4, np.float32)
        addresses.add(int(memory))
        memory.free()
        del buffer, memory
    change = driver.counters() - before
    assert (change.device_allocations, change.device_frees, change.pinned_frees) == (1000, 1000, 1000)
    assert (change.live_device_bytes, change.live_pinned_bytes) == (0, 0)
    assert len(addresses) == 1000  # never used twice, so that a stale one is always noticed


def test_the_context_takes_its_memory_with_it(driver: SimulatedDriver) -> None:
    import pycuda.driver as cuda

    cuda.init()
    before = driver.counters()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    memory, stream = cuda.mem_alloc(BYTES), cuda.Stream()
    inside = driver.counters() - before
    assert (inside.live_contexts, inside.live_streams, inside.live_device_bytes) == (1, 1, BYTES)
    context.pop()
    context.detach()
    after = driver.counters() - before
    assert (after.live_contexts, after.live_streams, after.live_device_bytes) == (0, 0, 0)
    del memory, stream
