"""Our CUDA layer on the driver: copies, rows, graphs, failed captures, threads, held arrays, and nothing left behind.

What `tests/simulated` checks without its faults and counters, so that it holds on any driver.
"""

import gc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gpu_parts.session import Session

# Two blocks of pycuda's or of the driver's own may stay; a leak of a check below is as large as this each time.
_BYTES, _SPARE = 4 << 20, 3 << 20


def there_and_back(device: Any) -> None:
    """Bytes, also from an offset on."""
    given, back = (device.run(device.pinned, (3, 4), np.float32) for _ in range(2))
    given[...] = np.arange(12).reshape(3, 4)
    memory = device.run(device.allocate, 2 * given.nbytes)
    device.run(device.fill_zero, memory)
    device.run(device.upload, memory, given, given.nbytes)
    device.run(device.download, back, memory, given.nbytes)
    device.run(device.synchronize)
    np.testing.assert_array_equal(back, given)


def within_the_device(device: Any) -> None:
    """Copies between blocks with offsets, and one word."""
    first, second = (device.run(device.allocate, 16) for _ in range(2))
    given, back = (device.run(device.pinned, (4,), np.int32) for _ in range(2))
    given[...] = (1, 2, 3, 4)
    device.run(device.upload, first, given)
    device.run(device.fill_zero, second)
    device.run(device.copy, second, first, 8, 8, 4)
    device.run(device.fill_word, second, 0, 7)
    device.run(device.download, back, second)
    device.run(device.synchronize)
    assert back.tolist() == [7, 0, 2, 3]


def parts_of_rows(device: Any) -> None:
    """The first part of every row."""
    given, back = (device.run(device.pinned, (3, 4), np.float32) for _ in range(2))
    given[...] = np.arange(12).reshape(3, 4)
    memory = device.run(device.allocate, given.nbytes)
    device.run(device.fill_zero, memory)
    device.run(device.run, device.strided_upload(memory, given, 8))
    device.run(device.download, back, memory)
    device.run(device.synchronize)
    np.testing.assert_array_equal(back[:, :2], given[:, :2])
    assert not back[:, 2:].any()


def graphs(device: Any) -> None:
    """A captured graph reads what is there when it is launched, not when it was captured."""
    source, target = (device.run(device.allocate, 16) for _ in range(2))
    given, back = (device.run(device.pinned, (4,), np.float32) for _ in range(2))

    def work() -> None:
        device.upload(source, given)
        device.copy(target, source, 16)
        device.fill_word(target, 0, 0)
        device.download(back, target)

    graph = device.run(device.capture, work)
    for value in (1, 2, 3):
        given[...] = value
        device.run(graph.launch)
        device.run(device.synchronize)
        assert back.tolist() == [0, value, value, value]


def spoilt_captures(device: Any) -> None:
    """A capture that fails leaves the stream usable."""
    from pixrt.errors import BackendError

    try:
        device.run(device.capture, device.synchronize)
    except BackendError:
        pass
    else:
        raise AssertionError("a synchronisation was captured")
    there_and_back(device)
    graphs(device)


def events(device: Any) -> None:
    """Two marks around work measure a time that is not negative."""
    memory = device.run(device.allocate, _BYTES)
    first = device.run(device.mark)
    device.run(device.fill_zero, memory)
    last = device.run(device.mark)
    assert device.run(device.milliseconds, first, last) >= 0
    pair = [first, last]
    del first, last
    device.run(pair.clear)  # events are freed in the device's thread


def threads(device: Any) -> None:
    """Any thread may call, and drop what it has."""

    def one(number: int) -> float:
        given, back = (device.run(device.pinned, (1000,), np.float32) for _ in range(2))
        memory = device.run(device.allocate, given.nbytes)
        given[...] = number
        device.run(device.upload, memory, given)
        device.run(device.download, back, memory)
        device.run(device.synchronize)
        return float(back[-1])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(64))) == list(range(64))


def held_arrays(device: Any) -> None:
    """An array is uploaded once, and converted."""
    from pixrt.backends.cuda.held import HeldArrays

    held, array, back = HeldArrays(device), np.arange(6, dtype=np.float32), device.run(device.pinned, (6,), np.float16)
    memory = device.run(held.get, array, np.float16)
    assert device.run(held.get, array, np.float16) is memory
    device.run(device.download, back, memory)
    device.run(device.synchronize)
    assert back.tolist() == [0, 1, 2, 3, 4, 5]
    held.clear()


def nothing_is_left(device: Any) -> None:
    """Blocks that are dropped come back."""
    device.run(device.synchronize)
    before = device.memory()[0]
    for _ in range(20):
        device.run(device.fill_zero, device.run(device.allocate, _BYTES))
    gc.collect()
    device.run(device.synchronize)
    assert before - device.memory()[0] < _SPARE


CHECKS: Mapping[str, Callable[[Any], None]] = {
    check.__name__: check
    for check in (
        *(there_and_back, within_the_device, parts_of_rows, graphs, spoilt_captures, events, threads, held_arrays),
        nothing_is_left,
    )
}


def run(session: Session) -> None:
    """Every check, one after the other, each told at once; the first that fails does not stop the others."""
    session.driver()
    from pixrt.backends.cuda.device import Device, describe_devices

    session.tell(on=describe_devices())
    failed = []
    device = Device()
    try:
        for name, check in CHECKS.items():
            try:
                check(device)
                session.tell(**{name: "passed"})
            except Exception as error:
                failed.append(name)
                session.tell(**{name: f"failed: {type(error).__name__}: {str(error)[:500]}"})
    finally:
        gc.collect()
        device.close()
    assert not failed, f"failed: {', '.join(failed)}"
