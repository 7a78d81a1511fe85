"""Settings of the C library's allocator: how much freed memory the process keeps.

By default, large freed pieces go back to the kernel at once and are fetched again page by page, which takes a seventh
of the time of a training step. These functions do nothing where the C library is not glibc.
"""
from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

_DONTNEED = 4  # of Linux's <sys/mman.h>
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ \S+ *(.*)\n((?:[A-Z].*\n)+)", re.M)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's <malloc.h>


def keep_freed() -> None:
    """Keep all freed memory, for work that needs the same sizes again and again."""
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1})


def keep_little_freed() -> None:
    """Keep the freed memory of a batch of questions, and give larger pieces back at once. The kept memory lies in gaps
    between the states of texts: see `give_back`."""
    _set({_MMAP_THRESHOLD: 1 << 23, _TRIM_THRESHOLD: 1 << 25})


def give_back() -> None:
    """Give all freed pages back to the system; takes milliseconds."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def unmap_unwritten() -> None:
    """Takes out of the process the pages of programs and libraries that it has only read, most of them while it started.
    Those that are needed come back at their next use, from the system's memory for files; the others no longer count as the
    process's own, and the system may use their memory for something else. Linux only; takes milliseconds."""
    with contextlib.suppress(AttributeError, OSError):
        madvise = ctypes.CDLL(None).madvise
        for start, end in _unwritten(Path("/proc/self/smaps").read_text()):
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def _unwritten(smaps: str) -> Iterator[tuple[int, int]]:
    """The address ranges of files' pages that cannot be written to and of which no page has been."""
    for mapping in _MAPPING.finditer(smaps):
        start, end, rights, file, details = mapping.groups()
        if file.startswith("/") and "w" not in rights and "Anonymous: 0 kB" in re.sub(" +", " ", details):
            yield int(start, 16), int(end, 16)


def _set(sizes: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError):
        for setting, size in sizes.items():
            ctypes.CDLL(None).mallopt(setting, size)
