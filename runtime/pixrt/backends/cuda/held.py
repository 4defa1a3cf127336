"""Device copies of arrays that do not change. Everything here runs in the device's thread."""

from collections import OrderedDict
from typing import Any

import numpy as np

from pixrt.backends.cuda.device import Device, Memory
from pixrt.backends.protocol import Array

HELD_KEPT = 256


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
