"""Words that are never suggested unprompted. The project's list is `unprompted.txt`; its head states the rule."""
from __future__ import annotations

import os
from pathlib import Path

OWN, NONE = "own", "none"


def read_blocklist(source: str | os.PathLike[str] = OWN) -> tuple[str, ...]:
    """The words of a file with one word a line; `#` begins a comment. "own" is the project's list, "none" an empty one.

    Raises ValueError if the file cannot be read.
    """
    if source == NONE:
        return ()
    path = Path(__file__).with_name("unprompted.txt") if source == OWN else Path(source)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"the words not to suggest cannot be read from {path}: {error}; accepted: {OWN}, {NONE}, or "
                         "a file in UTF-8 with one word a line") from None
    return tuple(word for line in lines if (word := line.partition("#")[0].strip()))
