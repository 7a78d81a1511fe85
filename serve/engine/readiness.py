"""The readiness of each worker, in memory that all processes share."""
from __future__ import annotations

from nextword.serve.engine.memory_file import MemoryFile


class Readiness:
    """One flag for each worker id.

    There are twice as many ids as workers, because a reload starts the new workers with the free ids.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._share(MemoryFile(bytes(2 * workers + 1)))

    def _share(self, file: MemoryFile) -> None:
        self._file, self._flags = file, file.map()  # the last byte is the first id of the serving workers

    def __getstate__(self) -> tuple[int, MemoryFile]:
        return self._workers, self._file

    def __setstate__(self, state: tuple[int, MemoryFile]) -> None:
        self._workers, file = state
        self._share(file)

    def set(self, worker_id: int, ready: bool) -> None:
        self._flags[worker_id] = ready

    def is_ready(self, worker_id: int) -> bool:
        return bool(self._flags[worker_id])

    @property
    def serving(self) -> range:
        """The ids of the serving workers."""
        first = self._flags[-1]
        return range(first, first + self._workers)

    @property
    def next(self) -> range:
        """The ids of the workers that a reload starts."""
        first = self._workers - self._flags[-1]
        return range(first, first + self._workers)

    def swap(self) -> None:
        """Make the next workers the serving ones."""
        self._flags[-1] = self.next.start

    def count(self, ids: range) -> int:
        return sum(map(self.is_ready, ids))
