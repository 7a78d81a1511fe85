"""The part of a long text that is read, and the places where a text may be cut.

A text may be cut where reading it on from there gives the same as reading it at once: after a line break, or before
blanks that are followed by a word.
"""
from __future__ import annotations

from collections.abc import Iterator

BLANKS = " \t"


def window(text: str, block: int) -> str:
    """Return the last `block` to 2 `block` characters of a text, from the next cut on.

    The beginning of the window moves only once in `block` characters, so that a growing text keeps its beginning, and
    with it its entry in the state cache.
    """
    start = max(0, len(text) // block - 1) * block
    if start:
        start = next_cut(text, start, block)
    return text[start:]


def next_cut(text: str, start: int, limit: int | None = None) -> int:
    """Return the first cut at `start` or later.

    Without one: `start` if only `limit` characters were to be searched, else the end of the text.
    """
    end = len(text) if limit is None else min(len(text), start + limit)
    return next((place for place in range(start, end) if _is_cut(text, place)), end if limit is None else start)


def cuts(text: str) -> Iterator[int]:
    """Yield the places where a text may be cut, the last first, beginning with its end."""
    if text:
        yield len(text)
    for place in range(len(text) - 1, 0, -1):
        if _is_cut(text, place):
            yield place


def _is_cut(text: str, place: int) -> bool:
    if text[place - 1] == "\n":
        return True
    if text[place] not in BLANKS or text[place - 1].isspace():
        return False
    after = text[place : place + 9].lstrip(BLANKS)  # longer runs of blanks are not looked through
    return bool(after) and not after[0].isspace()
