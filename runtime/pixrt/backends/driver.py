"""The NVIDIA driver that is here: its own library tells which CUDA it runs. Needs no package and starts no context.

Must not import a backend.
"""

import ctypes
import sys

# The oldest driver that runs what was built for a major version of CUDA; newer ones do, too. The table is NVIDIA's, of
# "Minor Version Compatibility" (docs.nvidia.com/deploy/cuda-compatibility).
OLDEST_DRIVER = {12: 525, 13: 580}
LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver here runs, as major and minor; None where there is no driver."""
    version = ctypes.c_int(0)
    try:
        refused = ctypes.CDLL(LIBRARY).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):  # no library, or none of NVIDIA's
        return None
    return None if refused else (version.value // 1000, version.value % 1000 // 10)


def driver_problem(cuda_major: int) -> str | None:
    """Why the driver here cannot run what was built for this CUDA; None where it can."""
    oldest = OLDEST_DRIVER.get(cuda_major)
    needed = f"CUDA {cuda_major} needs the NVIDIA driver" + (f" {oldest} or newer" if oldest else "")
    found = driver_cuda()
    if found is None:
        return f"{needed}, and there is none ({LIBRARY})"
    if found[0] < cuda_major:
        return f"{needed}, and the one here runs CUDA {found[0]}.{found[1]} at most"
    return None


def describe_driver() -> str:
    """What `driver_cuda` found, for people."""
    found = driver_cuda()
    return f"none ({LIBRARY})" if found is None else f"runs CUDA {found[0]}.{found[1]} at most"
