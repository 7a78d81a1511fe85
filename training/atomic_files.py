"""Files that are written whole or not at all."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file to write to. It replaces `path` when all of its content is on disk.

    `path` is never half-written, even if the process or the machine stops. Such a stop leaves a temporary file. The
    next call for the same path removes it.
    """
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        for other in path.parent.glob(f"{escape(path.name)}.*.part"):
            if other != part:
                other.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # another process has just written the same path
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON. The folder is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, indent=1).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write the whole file, or leave the old one."""
    with replacing(path) as file:
        file.write(content)
