"""The text to ask about: the prose of Python's own documentation, which every machine has."""

from __future__ import annotations

import re
from pathlib import Path

# No character that JSON would escape.
_PROSE = re.compile(r"[A-Za-z][a-z]*(?:['-][a-z]+)*[.,;:]?")


def words() -> list[str]:
    """Return the words of `help()`'s topics, each paragraph once."""
    from pydoc_data.topics import topics

    paragraphs = dict.fromkeys(part for topic in sorted(topics) for part in topics[topic].split("\n\n"))
    return [word for paragraph in paragraphs for word in paragraph.split() if _PROSE.fullmatch(word)]


def openings(text: list[str], length: int, count: int) -> list[str]:
    """Return `count` different pieces of `length` words, from all over the text."""
    starts = range(0, len(text) - length, (len(text) - length) // count)
    return [" ".join(text[start : start + length]) for start in starts[:count]]


def write(path: Path, pieces: list[str], text: list[str]) -> None:
    """Write the file that load.lua reads: the openings, one a line, and last the whole text."""
    path.write_text("\n".join([*pieces, " ".join(text)]) + "\n", encoding="ascii")
