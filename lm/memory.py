"""How the process's C library deals with memory that was freed; where it is not glibc, nothing of this is done.

Larger pieces are by default given back to the kernel at once and fetched again page by page: in a training step that takes a
seventh of the time.
"""
from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's <malloc.h>


def keep_freed() -> None:
    """All of it stays with the process, for work that needs the same again and again."""
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1})


def keep_little_freed() -> None:
    """What a batch of questions needs stays with the process; larger pieces are given back at once. What is kept lies in
    gaps between the texts' states: see `give_back`."""
    _set({_MMAP_THRESHOLD: 1 << 23, _TRIM_THRESHOLD: 1 << 25})


def give_back() -> None:
    """Gives all freed pages back to the system; takes milliseconds."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(sizes: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError):
        for setting, size in sizes.items():
            ctypes.CDLL(None).mallopt(setting, size)
