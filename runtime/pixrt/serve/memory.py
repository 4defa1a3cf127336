"""How the processes of a server use memory: what they do with what they have freed, how much they have, and may have.

Must not import numpy or Pillow.
"""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

# Of glibc's malloc.h. Its own limits are 128 KiB, and twice the largest block that was freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT, _MOST_KEPT = 32 << 20, 256 << 20


def keep_memory() -> None:
    """Keep what is freed for the next picture, up to a limit. Does nothing without glibc.

    It would be given back to the system and taken anew for every large array and body, page by page: 1.5 ms for the
    3 MB of a picture of 512 pixels.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)


def settle() -> None:
    """Leave what exists now out of every later garbage collection: it stays, and is looked through for 30 ms."""
    gc.collect()
    gc.freeze()


def resident_bytes(pid: int | str = "self") -> int:
    """What a process has in memory; 0 where the system does not tell it, or if there is no such process."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def limit_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """What the processes of a container, or of this machine, may have together; 0 where the system does not tell it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min([machine, *_cgroup_limits(cgroup)])
    return 0


def _cgroup_limits(root: Path) -> list[int]:
    """Those that hold for this process: of its cgroup and those above it. Version 2 only."""
    limits = []
    with contextlib.suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()
        folder = root / own
        for each in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((each / "memory.max").read_text()))
            if each == root:
                break
    return limits
