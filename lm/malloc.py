"""Settings of the C library's allocator: the amount of freed memory that the process keeps.

By default, the allocator returns large freed pieces to the kernel at once. To get them back page by page takes a
seventh of the time of a training step. These functions do nothing if the C library is not glibc.
"""
from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # names and values of glibc's <malloc.h>


def keep_freed() -> None:
    """Keep all freed memory, for work that needs the same sizes again and again."""
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1})


def keep_little_freed() -> None:
    """Keep the freed memory of a batch of questions, and return larger pieces at once.

    The kept memory lies in gaps between the states of texts; `give_back` returns it.
    """
    _set({_MMAP_THRESHOLD: 1 << 23, _TRIM_THRESHOLD: 1 << 25})


def give_back() -> None:
    """Return all freed pages to the system. This takes milliseconds."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(sizes: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError):
        for setting, size in sizes.items():
            ctypes.CDLL(None).mallopt(setting, size)
