"""Streams, capture and graphs of the simulated CUDA driver under the real cuda-bindings."""

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from simulated_cuda import SimulatedDriver, SimulationError, load_driver

pytestmark = pytest.mark.simulated

NON_BLOCKING = 1
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2  # capture modes
BYTES = 16


class Device:
    """cuda-bindings with what a test needs at hand: errors raised, memory as arrays of four floats."""

    def __init__(self, cu: Any) -> None:
        self.cu = cu

    def __call__(self, name: str, *arguments: Any) -> Any:
        code, *values = getattr(self.cu, name)(*arguments)
        if code != 0:
            raise CudaError(f"{name}: {code.name}")
        return values[0] if len(values) == 1 else values

    def allocate(self) -> int:
        return int(self("cuMemAlloc", BYTES))

    def pinned(self, value: float | None = None) -> np.ndarray[Any, Any]:
        array = as_array(int(self("cuMemHostAlloc", BYTES, 0)))
        if value is not None:
            array[:] = value
        return array

    def stream(self, flags: int = NON_BLOCKING) -> int:
        return int(self("cuStreamCreate", flags))

    def upload(self, device: int, source: Any, stream: int) -> None:
        self("cuMemcpyHtoDAsync", device, source.ctypes.data, BYTES, stream)

    def download(self, target: Any, device: int, stream: int) -> None:
        self("cuMemcpyDtoHAsync", target.ctypes.data, device, BYTES, stream)

    def begin(self, stream: int, mode: int = GLOBAL) -> None:
        self("cuStreamBeginCapture", stream, self.cu.CUstreamCaptureMode(mode))

    def end(self, stream: int) -> Any:
        return self("cuGraphInstantiate", self("cuStreamEndCapture", stream), 0)


class CudaError(Exception):
    pass


def as_array(address: int) -> Any:
    return np.ctypeslib.as_array((ctypes.c_float * 4).from_address(address))


@pytest.fixture
def driver() -> Iterator[SimulatedDriver]:
    driver = load_driver()
    driver.reset()
    yield driver
    driver.reset()


@pytest.fixture
def device(driver: SimulatedDriver) -> Iterator[Device]:
    from cuda.bindings import driver as cu

    device = Device(cu)
    device("cuInit", 0)
    gpu = device("cuDeviceGet", 0)
    device("cuCtxPushCurrent", device("cuDevicePrimaryCtxRetain", gpu))
    yield device
    driver.reset()
    device("cuCtxPopCurrent")
    device("cuDevicePrimaryCtxRelease", gpu)


def test_work_is_late_and_memory_is_poison(device: Device) -> None:
    stream, memory, source, target = device.stream(), device.allocate(), device.pinned(), device.pinned()
    assert np.isnan(source).all()
    assert np.isnan(as_array(memory)).all()
    source[:] = 1
    device.upload(memory, source, stream)
    device.download(target, memory, stream)
    assert np.isnan(target).all()
    source[:] = 2  # a race: the copy has not run yet
    device("cuStreamSynchronize", stream)
    assert (target == 2).all()


def test_a_query_makes_progress(device: Device, driver: SimulatedDriver) -> None:
    stream, memory, target = device.stream(), device.allocate(), device.pinned()
    event = device("cuEventCreate", 0)
    device("cuMemsetD32Async", memory, 0x3F800000, 4, stream)
    device.download(target, memory, stream)
    device("cuEventRecord", event, stream)
    cu = device.cu
    assert [cu.cuEventQuery(event)[0].name for _ in range(3)] == ["CUDA_ERROR_NOT_READY"] * 2 + ["CUDA_SUCCESS"]
    assert (target == 1).all()
    device.upload(memory, target, stream)
    assert [cu.cuStreamQuery(stream)[0].name for _ in range(3)] == ["CUDA_ERROR_NOT_READY"] * 2 + ["CUDA_SUCCESS"]
    assert driver.counters().queued_operations == 0


@pytest.mark.parametrize("waits", [True, False])
def test_a_stream_sees_another_one_through_an_event(waits: bool, device: Device) -> None:
    first, second, memory = device.stream(), device.stream(), device.allocate()
    source, target = device.pinned(3), device.pinned()
    event = device("cuEventCreate", 2)
    device.upload(memory, source, first)
    device("cuEventRecord", event, first)
    if waits:
        device("cuStreamWaitEvent", second, event, 0)
    device.download(target, memory, second)
    device("cuStreamSynchronize", second)
    assert (target == 3).all() if waits else np.isnan(target).all()


@pytest.mark.parametrize(("flags", "seen"), [(0, True), (NON_BLOCKING, False)])
def test_a_synchronous_copy_waits_for_blocking_streams_only(flags: int, seen: bool, device: Device) -> None:
    stream, memory, source, target = device.stream(flags), device.allocate(), device.pinned(4), np.zeros(4, np.float32)
    device.upload(memory, source, stream)
    device("cuMemcpyDtoH", target.ctypes.data, memory, BYTES)
    assert (target == 4).all() if seen else np.isnan(target).all()


def test_a_pageable_source_is_taken_at_the_call(device: Device, driver: SimulatedDriver) -> None:
    stream, memory, source, target = device.stream(), device.allocate(), np.ones(4, np.float32), device.pinned()
    device.upload(memory, source, stream)
    source[:] = 2
    device.download(target, memory, stream)
    device("cuStreamSynchronize", stream)
    assert (target == 1).all()
    assert driver.counters().pageable_copies == 1


def test_a_graph_replays_addresses_not_contents(device: Device, driver: SimulatedDriver) -> None:
    stream, memory, source, target = device.stream(), device.allocate(), device.pinned(1), device.pinned()
    double, before = as_array(memory), driver.counters()
    device.begin(stream)
    device.upload(memory, source, stream)
    assert driver.enqueue(stream, lambda: double.__imul__(2)) == 0
    device.download(target, memory, stream)
    status, *_ = device("cuStreamGetCaptureInfo", stream)
    assert status.name.endswith("ACTIVE")
    graph = device("cuStreamEndCapture", stream)
    assert device("cuGraphGetNodes", graph)[1] == 3
    assert driver.counters().queued_operations == driver.counters().host_functions == 0
    replay = device("cuGraphInstantiate", graph, 0)
    device("cuGraphDestroy", graph)
    for value in (5, 7):
        source[:] = value
        device("cuGraphLaunch", replay, stream)
        device("cuStreamSynchronize", stream)
        assert (target == 2 * value).all()
    device("cuGraphExecDestroy", replay)
    counted = driver.counters() - before
    assert (counted.captures, counted.graph_launches, counted.host_functions) == (1, 2, 2)
    assert (counted.htod_copies, counted.dtoh_bytes, counted.stream_syncs) == (2, 2 * BYTES, 2)
    assert (counted.live_graphs, counted.live_graph_execs) == (0, 0)
    assert driver.raised == []


@pytest.mark.parametrize(
    ("call", "allowed_when_relaxed"),
    [
        (lambda d, s, m, e: d("cuStreamSynchronize", s), False),
        (lambda d, s, m, e: d("cuStreamQuery", s), False),
        (lambda d, s, m, e: d("cuCtxSynchronize"), False),
        (lambda d, s, m, e: d("cuMemcpyHtoD", m, np.ones(4, np.float32).ctypes.data, BYTES), True),
        (lambda d, s, m, e: d("cuMemAlloc", BYTES), True),
        (lambda d, s, m, e: d("cuMemHostAlloc", BYTES, 0), True),
        (lambda d, s, m, e: d("cuEventQuery", e), True),
    ],
)
@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL, RELAXED])
def test_what_waits_spoils_a_capture(call: Any, allowed_when_relaxed: bool, mode: int, device: Device) -> None:
    stream, memory, source = device.stream(), device.allocate(), device.pinned(1)
    event = device("cuEventCreate", 0)
    device.begin(stream, mode)
    device.upload(memory, source, stream)
    if mode == RELAXED and allowed_when_relaxed:
        call(device, stream, memory, event)
        assert device("cuStreamEndCapture", stream) is not None
        return
    with pytest.raises(CudaError, match="STREAM_CAPTURE_UNSUPPORTED"):
        call(device, stream, memory, event)
    with pytest.raises(CudaError, match="STREAM_CAPTURE_INVALIDATED"):
        device.upload(memory, source, stream)
    with pytest.raises(CudaError, match="STREAM_CAPTURE_INVALIDATED"):
        device("cuStreamEndCapture", stream)
    device("cuStreamSynchronize", stream)  # the stream is an ordinary one again


def test_the_legacy_stream_spoils_the_capture_of_a_blocking_one(device: Device) -> None:
    stream, memory = device.stream(0), device.allocate()
    device.begin(stream, RELAXED)
    with pytest.raises(CudaError, match="STREAM_CAPTURE_IMPLICIT"):
        device("cuMemsetD8Async", memory, 0, BYTES, 0)
    with pytest.raises(CudaError, match="STREAM_CAPTURE_INVALIDATED"):
        device("cuStreamEndCapture", stream)


@pytest.mark.parametrize("joined", [True, False])
def test_a_branch_must_join(joined: bool, device: Device) -> None:
    stream, branch, memory, target = device.stream(), device.stream(), device.allocate(), device.pinned()
    fork, join = device("cuEventCreate", 2), device("cuEventCreate", 2)
    device.begin(stream)
    device("cuEventRecord", fork, stream)
    device("cuStreamWaitEvent", branch, fork, 0)
    device("cuMemsetD32Async", memory, 0x40000000, 4, branch)
    device("cuEventRecord", join, branch)
    if not joined:
        with pytest.raises(CudaError, match="STREAM_CAPTURE_UNJOINED"):
            device("cuStreamEndCapture", stream)
        return
    device("cuStreamWaitEvent", stream, join, 0)
    device.download(target, memory, stream)
    replay = device.end(stream)
    with pytest.raises(CudaError, match="CAPTURED_EVENT"):
        device("cuEventSynchronize", join)
    device("cuGraphLaunch", replay, branch)
    device("cuStreamSynchronize", branch)
    assert (target == 2).all()


def test_a_capture_cannot_wait_for_work_outside_of_it(device: Device) -> None:
    stream, other, memory = device.stream(), device.stream(), device.allocate()
    event = device("cuEventCreate", 2)
    device("cuMemsetD8Async", memory, 0, BYTES, other)
    device("cuEventRecord", event, other)
    device.begin(stream)
    with pytest.raises(CudaError, match="STREAM_CAPTURE_ISOLATION"):
        device("cuStreamWaitEvent", stream, event, 0)


def test_a_graph_over_freed_memory_faults(device: Device, driver: SimulatedDriver) -> None:
    stream, memory = device.stream(), device.allocate()
    device.begin(stream)
    device("cuMemsetD8Async", memory, 0, BYTES, stream)
    replay = device.end(stream)
    device("cuMemFree", memory)
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        device("cuGraphLaunch", replay, stream)
    assert "no live block of device memory" in driver.log()[0]
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):  # nothing works after a fault
        device.allocate()


def test_host_functions_may_not_call_the_driver(device: Device, driver: SimulatedDriver) -> None:
    stream, codes = device.stream(), []
    assert driver.enqueue(stream, lambda: codes.append(device.cu.cuStreamQuery(stream)[0].name)) == 0
    assert codes == []
    device("cuStreamSynchronize", stream)
    assert codes == ["CUDA_ERROR_NOT_PERMITTED"]
    assert driver.enqueue(stream, lambda: [][0]) == 0
    device("cuCtxSynchronize")
    assert [type(error) for error in driver.raised] == [IndexError]


def test_another_thread_calls_the_driver_while_a_host_function_runs(device: Device, driver: SimulatedDriver) -> None:
    stream, context = device.stream(), device("cuCtxGetCurrent")
    runs, goes_on, answered = threading.Event(), threading.Event(), []

    def work() -> None:
        runs.set()
        answered.append(goes_on.wait(timeout=10))

    def wait() -> None:
        device("cuCtxSetCurrent", context)
        device("cuStreamSynchronize", stream)

    assert driver.enqueue(stream, work) == 0
    waiter = threading.Thread(target=wait)
    waiter.start()
    assert runs.wait(timeout=10)
    assert device.cu.cuStreamQuery(stream)[0].name == "CUDA_ERROR_NOT_READY"
    goes_on.set()
    waiter.join()
    assert answered == [True]
    assert driver.counters().host_functions == 1


def test_handles_that_were_destroyed_are_noticed(device: Device) -> None:
    stream, event = device.stream(), device("cuEventCreate", 0)
    device("cuStreamDestroy", stream)
    device("cuEventDestroy", event)
    for call in (("cuStreamSynchronize", stream), ("cuEventSynchronize", event), ("cuStreamDestroy", stream)):
        with pytest.raises(CudaError, match="INVALID_HANDLE"):
            device(*call)


def test_names_texts_and_what_is_not_there(device: Device, driver: SimulatedDriver) -> None:
    cu = device.cu
    assert device("cuGetErrorString", cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY) == b"out of memory"
    assert device("cuGetErrorName", cu.CUresult.CUDA_ERROR_NOT_READY) == b"CUDA_ERROR_NOT_READY"
    assert cu.cuGetProcAddress(b"cuNoSuchFunction", 13000, 0)[0].name == "CUDA_ERROR_NOT_FOUND"
    assert cu.cuGetProcAddress(b"cuMemAlloc", 3020, 0)[0].name == "CUDA_SUCCESS"
    with pytest.raises(CudaError, match="NOT_SUPPORTED"):
        device("cuMemAllocManaged", BYTES, 1)
    assert driver.log() == ["cuMemAllocManaged is not simulated"]


def test_a_second_driver_is_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulated_cuda._driver", None)
    with pytest.raises(SimulationError, match="already loaded"):
        load_driver()
