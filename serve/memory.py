"""How a worker's C library deals with memory that was freed; where it is not glibc, nothing of this is done."""
from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's <malloc.h>


def keep_freed() -> None:
    """Has what a batch needs stay with the process, instead of being fetched from the kernel page by page each time, and
    gives larger pieces back at once. What is kept lies in gaps between the texts' states: see `give_back`."""
    with contextlib.suppress(AttributeError, OSError):
        for setting, size in (_MMAP_THRESHOLD, 1 << 23), (_TRIM_THRESHOLD, 1 << 25):
            ctypes.CDLL(None).mallopt(setting, size)


def give_back() -> None:
    """Gives all freed pages back to the system; takes milliseconds."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
