"""The GPU of this machine, by name and compute capability, asked of the driver's library only.

A build needs no more of CUDA than this, so no CUDA binding is imported: neither here nor elsewhere in the package.
"""

import ctypes
import sys
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its name, and its compute capability such as "sm89"."""

    name: str
    capability: str


def present_gpu() -> Gpu | None:
    """The first GPU, or None if there is no driver or no device."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, value = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), device)
    numbers = []
    for attribute in (_MAJOR, _MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return Gpu(name.value.decode(errors="replace"), f"sm{numbers[0]}{numbers[1]}")
