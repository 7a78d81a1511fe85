"""The part of a long text that is read, and the places where a text can be cut.

A cut does not change the result: both parts, read one after the other, give the same context as the whole text. Cuts
are after a line break, or before blanks that a word follows.
"""
from __future__ import annotations

from collections.abc import Iterator

BLANKS = " \t"


def window(text: str, block: int) -> str:
    """Return the last one to two blocks of characters of a text, from the next cut on.

    The beginning of the window moves only once in `block` characters. So a growing text keeps its beginning, and its
    entry in the state cache.
    """
    start = max(0, len(text) // block - 1) * block
    if start:
        start = next_cut(text, start, block)
    return text[start:]


def next_cut(text: str, start: int, limit: int | None = None) -> int:
    """Return the first cut at `start` or later.

    limit: search only this many characters, and return `start` if they have no cut. Without a limit, return the end of
    the text if it has no cut.
    """
    end = len(text) if limit is None else min(len(text), start + limit)
    return next((place for place in range(start, end) if _is_cut(text, place)), end if limit is None else start)


def cuts(text: str) -> Iterator[int]:
    """Yield the end of a text, and then its cuts from the last to the first."""
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
    after = text[place : place + 9].lstrip(BLANKS)  # longer runs of blanks are not searched
    return bool(after) and not after[0].isspace()
