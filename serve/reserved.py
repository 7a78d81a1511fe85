"""The files that processes count in, with all their room taken beforehand.

prometheus_client writes to them as memory, of which the disk's share is only taken when it is first written to. Where the
disk is full by then, the system ends the process (SIGBUS).
"""
from __future__ import annotations

import mmap
import os

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from nextword.serve.logs import logger

ROOM = {"histogram": 1 << 19}  # bytes: every route with every status has a line for each of its buckets
LITTLE = 1 << 16


def reserve() -> None:
    """Has all files that are made from now on reserved."""
    values.MmapedDict = _Reserved


class _Reserved(MmapedDict):
    """One of the files; where there is no room for it, memory in its place, which no scrape sees."""

    def __init__(self, filename: str, read_mode: bool = False):
        size = ROOM.get(os.path.basename(filename).partition("_")[0], LITTLE)
        try:
            if not read_mode and not os.path.exists(filename):
                _fill(filename, size)
            super().__init__(filename, read_mode)
        except OSError as error:
            logger.warning("what process %s counts is in no metrics: %s", os.getpid(), error.strerror)
            self._f, self._m, self._capacity, self._positions, self._used = None, mmap.mmap(-1, size), size, {}, 8


def _fill(filename: str, size: int) -> None:
    try:
        with open(filename, "xb") as file:
            file.write(bytes(size))
    except OSError:
        if os.path.exists(filename):
            os.remove(filename)
        raise
