"""How a large value gets to a process that is spawned with it: by a file in memory.

What is pickled for such a process goes through a pipe. Whoever spawns it writes into that for ever where there is more than
the pipe holds and the new process is killed before it has read all: the reading end is still open in the writer.
"""
from __future__ import annotations

import os
import pickle
import tempfile
from multiprocessing.reduction import DupFd
from typing import Any


class Handed:
    """A value, kept in a file in memory that goes along when this is pickled for a process to be spawned."""

    def __init__(self, value: Any):
        self._file = open(os.memfd_create("handed"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()
        pickle.dump(value, self._file)
        self._file.flush()

    def __getstate__(self) -> DupFd:
        return DupFd(self._file.fileno())

    def __setstate__(self, descriptor: DupFd) -> None:
        self._file = open(descriptor.detach(), "rb")

    def value(self) -> Any:
        # Not by reading on, as all who have the file are at the same place in it.
        return pickle.loads(os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0))

    def __del__(self) -> None:
        self._file.close()
