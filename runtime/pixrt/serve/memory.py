"""How the processes of a server use the memory that they have freed. Must not import numpy or Pillow."""

import contextlib
import ctypes
import gc

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
