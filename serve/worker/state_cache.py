"""What a model knows after each recent text, so that a text that grows by a word costs one word.

A text is cut where reading it on from there gives what reading it at once does: after a line break, or before blanks
that a word follows. Its context is kept at its end, and at every STEP characters of what had to be read. The next text is
read on from the longest of its beginnings that is known. The beginnings of one text share the memory that the continuous
cache needs (`lm.context`), which is by far the largest part of a context.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nextword.lm.context import Context
from nextword.lm.model import Model
from nextword.serve.metrics import CACHE_BYTES, CACHE_HITS, CACHE_MISSES

STEP = 400  # characters read at a time, about 70 words: what an edit in the middle of a new text costs at most
BLANKS = " \t"
DEARER = 8  # tokens that are copied in less time than one is read, and in less memory than one's state
ENTRY = 1_000  # bytes of Python objects that a known text takes, about
SPELLING = 200  # the same of a word that the vocabulary lacks

Key = tuple[int, int]  # length and hash of a text: the texts themselves are not kept


@dataclass
class _Line:
    """The memory of a context, of which those of its text's beginnings are the first part, and who has a part in it."""

    context: Context
    users: list[Key] = field(default_factory=list)  # from the shortest text to the longest


@dataclass
class _Known:
    """A text that was read: its context without the memory, which is the first `remembered` tokens of its line's."""

    context: Context
    remembered: int
    line: _Line


class StateCache:
    """The contexts of recent texts, least recently used ones dropped first.

    Args:
        model: reads the texts.
        limit: bytes that the contexts may take.

    Attributes:
        bytes: that the contexts take, about.
    """

    def __init__(self, model: Model, limit: int = 48_000_000):
        self._model, self._limit = model, limit
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        start = model.start
        self._entry = start.state.nbytes + start.output.nbytes + start.key.nbytes + ENTRY
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def unread(self, text: str) -> int:
        """How many characters of a text would have to be read."""
        return len(text) - self._longest_known(text)

    def read(self, texts: Sequence[str]) -> list[Context]:
        """The context of each text; none ends with blanks."""
        places = [self._longest_known(text) for text in texts]
        contexts = [self._recalled(text[:place]) for text, place in zip(texts, places)]
        CACHE_HITS.inc(sum(place > 0 for place in places))
        CACHE_MISSES.inc(sum(not place and bool(text) for place, text in zip(places, texts)))
        while active := [row for row, text in enumerate(texts) if places[row] < len(text)]:
            ends = [_next_cut(texts[row], places[row] + STEP) for row in active]
            parts = [texts[row][places[row] : end] for row, end in zip(active, ends)]
            read = self._model.extend([contexts[row] for row in active], parts)
            for row, end, context in zip(active, ends, read):
                self._keep(texts[row], places[row], end, context)
                contexts[row], places[row] = context, end
        self._shrink()
        CACHE_BYTES.set(self.bytes)
        return contexts

    def _longest_known(self, text: str) -> int:
        return next((end for end in _cuts(text) if _key(text[:end]) in self._known), 0)

    def _recalled(self, text: str) -> Context:
        if not text:
            return self._model.start
        key = _key(text)
        self._known.move_to_end(key)
        known = self._known[key]
        whole, n = known.line.context, known.remembered
        unknown = {place: word for place, word in whole.unknown.items() if place < n}
        return known.context._replace(cached=whole.cached.beginning(n), unknown=unknown)

    def _keep(self, text: str, start: int, end: int, context: Context) -> None:
        """Keeps the context of text[:end], which was read on from that of text[:start]."""
        key = _key(text[:end])
        if key in self._known:  # asked for twice at once
            return
        line = self._line(self._known.get(_key(text[:start])), context)
        self.bytes += _memory(context) - _memory(line.context)
        line.context = context
        line.users.append(key)
        bare = context._replace(cached=self._model.start.cached, unknown={})
        self._known[key] = _Known(bare, len(context.cached), line)
        self.bytes += self._entry

    def _line(self, before: _Known | None, context: Context) -> _Line:
        """The line that a context is to have, which was read on from `before`.

        It is the line of `before`, cut off there, where a copy would cost more than to read again what is cut off.
        """
        if before is None:
            return _Line(self._model.start)
        line, kept = before.line, before.remembered
        if len(context.cached) < context.length:  # the memory is full: its beginning was dropped
            kept = 0
        elif (len(line.context.cached) - kept) * DEARER > kept:
            return _Line(self._model.start)
        while line.users and self._known[line.users[-1]].remembered > kept:
            self._drop(line.users[-1])
        return line

    def _drop(self, key: Key) -> None:
        known = self._known.pop(key)
        self.bytes -= self._entry
        known.line.users.remove(key)
        if not known.line.users:
            self.bytes -= _memory(known.line.context)
            known.line.context = self._model.start

    def _shrink(self) -> None:
        while self.bytes > self._limit:
            self._drop(next(iter(self._known)))


def recent(text: str, block: int) -> str:
    """The end of a text that is read: its last `block` to 2 `block` characters, without blanks after them.

    Where it begins changes once in `block` characters, so that a growing text stays one whose beginning is known.
    """
    start = max(0, len(text) // block - 1) * block
    if start:
        start = _next_cut(text, start, block)
    return text[start:].rstrip(BLANKS)


def _next_cut(text: str, start: int, most: int | None = None) -> int:
    """The first cut at `start` or after; where there is none within `most` characters, `start`, else the end."""
    end = len(text) if most is None else min(len(text), start + most)
    return next((place for place in range(start, end) if _is_cut(text, place)), end if most is None else start)


def _cuts(text: str) -> Iterator[int]:
    """The places where a text can be cut, the last first: its end, and others within."""
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
    after = text[place : place + 9].lstrip(BLANKS)  # of more blanks nothing is known
    return bool(after) and not after[0].isspace()


def _key(text: str) -> Key:
    return len(text), hash(text)


def _memory(context: Context) -> int:
    return context.cached.nbytes + SPELLING * len(context.unknown)
