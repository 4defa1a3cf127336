"""Device memory that all engines of a device share: scratch, and copies of arrays that do not change.

Everything here runs in the device's thread. Must not import TensorRT.
"""

from collections import OrderedDict
from typing import Any

import numpy as np

from pixrt.backends.protocol import Array
from pixrt.backends.tensorrt.cuda import Device, Memory

HELD_KEPT = 256


class Scratch:
    """One block for the intermediate values of all engines, which never run at the same time; it grows when needed.

    `generation` tells that addresses set and graphs captured before are void.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: Memory | None = None
        self.generation = 0

    def require(self, bytes_: int) -> None:
        """Have at least so many bytes."""
        if self._memory is None or self._memory.bytes < bytes_:
            self.generation += 1
            self._memory = None  # the old block is free before the new one is asked for
            self._device.collect()
            self._memory = self._device.allocate(bytes_)

    def renew(self) -> None:
        """Have every graph captured anew: something that they hold, such as weights, has changed."""
        self.generation += 1

    @property
    def memory(self) -> Memory:
        """The block."""
        assert self._memory is not None
        return self._memory

    def clear(self) -> None:
        """Free it."""
        self._memory = None


class HeldArrays:
    """Device copies of arrays that do not change, by identity; the arrays last asked for, `HELD_KEPT` of them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._copies: OrderedDict[tuple[int, str], tuple[Array, Array, Memory]] = OrderedDict()

    def get(self, values: Array, dtype: Any) -> Memory:
        """The copy of an array, converted to `dtype`; uploaded at the first request."""
        key = (id(values), np.dtype(dtype).str)
        if key not in self._copies:
            converted = np.ascontiguousarray(values, dtype)
            memory = self._device.allocate(converted.nbytes)
            self._device.upload(memory, converted)
            # The array is kept: its identity must not go to another. So is what is read when the stream has come there.
            self._copies[key] = values, converted, memory
            while len(self._copies) > HELD_KEPT:
                self._copies.popitem(last=False)
        self._copies.move_to_end(key)
        return self._copies[key][2]

    def clear(self) -> None:
        """Free the copies."""
        self._copies.clear()
