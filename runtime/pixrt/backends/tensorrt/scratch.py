"""The block of device memory for intermediate values that all engines of a device share.

Everything here runs in the device's thread. Must not import TensorRT.
"""

from pixrt.backends.cuda.device import Device, Memory


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
