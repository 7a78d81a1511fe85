"""A temporary folder that is not left behind, even by a process that was killed."""
from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "nextword-serve-"
LOCK = "lock"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Gives a temporary folder, and takes away those of processes that were killed.

    The folder has a file that is locked for as long as this process or one forked from it lives.

    Raises:
        OSError: no temporary folder can be made.
    """
    for folder in _temporary().glob(f"{PREFIX}*"):
        _remove_if_abandoned(folder)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        with (folder / "locking").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "locking").rename(folder / LOCK)  # only now do others look at it
            yield folder


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise OSError("no temporary file can be written, neither where TMPDIR says nor in the system's own folders for them: "
                      "set TMPDIR to a folder that has room and may be written to") from None


def _remove_if_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / LOCK).open() as lock:  # locked, another user's, or just made
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
