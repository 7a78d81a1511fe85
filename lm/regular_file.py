"""Read a file from a stranger's folder: it may be a FIFO, a device, or larger than the memory."""
from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def read_regular_file(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. The path may be a symbolic link to it.

    Raises OSError for anything else, without waiting. A device is not opened: to open it can already start an action.
    """
    _check(os.stat(path), most)
    with open(os.open(path, _FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        _check(status, most)  # again, because the path may have got another file
        return file.read(status.st_size)


def _check(status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes; at most {most:,} are read")
