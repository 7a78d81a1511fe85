"""A file in memory that spawned processes receive, in place of their start-up pipe or a file on disk."""
from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from multiprocessing.reduction import DupFd
from typing import IO, Any


class MemoryFile:
    """An anonymous file in memory (on Linux; elsewhere an unnamed temporary file).

    Pickling it for a spawned process passes the open file to that process.
    """

    def __init__(self, content: bytes):
        self._file: IO[bytes]
        if hasattr(os, "memfd_create"):
            self._file = open(os.memfd_create("nextword"), "w+b")  # noqa: SIM115
        else:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.write(content)
        self._file.flush()

    def __getstate__(self) -> Any:
        return DupFd(self._file.fileno())

    def __setstate__(self, descriptor: Any) -> None:
        self._file = open(descriptor.detach(), "r+b")  # noqa: SIM115

    def read(self) -> bytes:
        # pread, because all processes that have the file share one position in it.
        return os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0)

    def map(self) -> mmap.mmap:
        """Return the content as memory that all processes with this file share."""
        return mmap.mmap(self._file.fileno(), os.fstat(self._file.fileno()).st_size)

    def __del__(self) -> None:
        if file := getattr(self, "_file", None):
            file.close()


class SpawnedValue:
    """A large value for a spawned process, pickled in a `MemoryFile`.

    It cannot go through the start-up pipe. If the new process is killed before it has read everything, the spawning
    process blocks for ever in its write, because it has the reading end open itself.
    """

    def __init__(self, value: Any):
        self._file = MemoryFile(pickle.dumps(value))

    def get(self) -> Any:
        return pickle.loads(self._file.read())
