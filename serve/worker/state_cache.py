"""Caches the contexts of recent texts, so that a text that grows by a word costs one word.

The cache has a text's context at its end, and at cuts (`serve.text_window`) every STEP characters of the newly read
part. The next text is read from the end of its longest cached prefix. The prefixes of one text share the cached tokens
of the continuous cache (`lm.continuous_cache`), the largest part of a context by far.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from nextword.lm.context import Context
from nextword.lm.model import Model
from nextword.serve.text_window import BLANKS, cuts, next_cut

STEP = 400  # characters, about 70 words: after an edit in the middle of a text, at most these are read twice
COPIED_TOKENS = 8  # to copy so many tokens takes less time than to read one, and less memory than one state
ENTRY_BYTES = 1_000  # Python objects of an entry, approximately
SPELLING_BYTES = 200  # Python objects of a word that the vocabulary lacks, approximately

Key = tuple[int, int]  # length and hash of a text: the texts themselves are not kept


@dataclass
class _Line:
    """The longest context of a growing text. The contexts of its prefixes share the first of its cached tokens."""

    context: Context
    users: list[Key] = field(default_factory=list)  # from the shortest prefix to the longest


@dataclass
class _Entry:
    """A text that was read: its context without cached tokens. Those are the first `tokens` ones of its line."""

    context: Context
    tokens: int
    line: _Line


class StateCache:
    """The contexts of recent texts; the least recently used ones are dropped first.

    Args:
        model: reads the texts.
        limit: the most bytes of all contexts.

    Attributes:
        bytes: the approximate size of all contexts.
    """

    def __init__(self, model: Model, limit: int = 48_000_000):
        self._model, self._limit = model, limit
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        start = model.start
        self._entry_bytes = start.state.nbytes + start.output.nbytes + start.key.nbytes + ENTRY_BYTES
        self.bytes = self._hits = self._misses = 0

    @property
    def remembers(self) -> bool:
        """Whether any text is kept after it was read."""
        return self._limit > 0

    def __len__(self) -> int:
        return len(self._entries)

    def take_counts(self) -> tuple[int, int]:
        """Return the hits and misses since the last call: texts with a prefix in the cache, and texts without one."""
        counts = self._hits, self._misses
        self._hits = self._misses = 0
        return counts

    def unread(self, text: str) -> int:
        """Return the number of characters of a text that must be read."""
        text = text.rstrip(BLANKS)
        return len(text) - self._longest_cached(text)

    def read(self, texts: Sequence[str]) -> list[Context]:
        """Return the context of each text; blanks at its end do not count."""
        texts = [text.rstrip(BLANKS) for text in texts]
        places = [self._longest_cached(text) for text in texts]
        contexts = [self._cached(text[:place]) for text, place in zip(texts, places)]
        self._hits += sum(place > 0 for place in places)
        self._misses += sum(not place and bool(text) for place, text in zip(places, texts))
        while active := [row for row, text in enumerate(texts) if places[row] < len(text)]:
            ends = [next_cut(texts[row], places[row] + STEP) for row in active]
            parts = [texts[row][places[row] : end] for row, end in zip(active, ends)]
            extended = self._model.extend([contexts[row] for row in active], parts)
            for row, end, context in zip(active, ends, extended):
                self._keep(texts[row], places[row], end, context)
                contexts[row], places[row] = context, end
        while self.bytes > self._limit:
            self._drop(next(iter(self._entries)))
        return contexts

    def _longest_cached(self, text: str) -> int:
        return next((end for end in cuts(text) if text_key(text[:end]) in self._entries), 0)

    def _cached(self, text: str) -> Context:
        if not text:
            return self._model.start
        key = text_key(text)
        self._entries.move_to_end(key)
        entry = self._entries[key]
        whole, n = entry.line.context, entry.tokens
        unknown = {place: word for place, word in whole.unknown.items() if place < n}
        return entry.context._replace(cached=whole.cached.beginning(n), unknown=unknown)

    def _keep(self, text: str, start: int, end: int, context: Context) -> None:
        """Keep the context of text[:end]; reading continued from the context of text[:start]."""
        key = text_key(text[:end])
        if key in self._entries:  # two questions of the batch have the same text
            return
        line = self._line(self._entries.get(text_key(text[:start])), context)
        self.bytes += _token_bytes(context) - _token_bytes(line.context)
        line.context = context
        line.users.append(key)
        bare = context._replace(cached=self._model.start.cached, unknown={})
        self._entries[key] = _Entry(bare, len(context.cached), line)
        self.bytes += self._entry_bytes

    def _line(self, before: _Entry | None, context: Context) -> _Line:
        """Return the line for a context that continues `before`.

        It is the line of `before`, cut off there. If a copy costs less than reading the rest again, it is a new line.
        """
        if before is None:
            return _Line(self._model.start)
        line, kept = before.line, before.tokens
        if len(context.cached) < context.length:  # the continuous cache is full: its first tokens were dropped
            kept = 0
        elif (len(line.context.cached) - kept) * COPIED_TOKENS > kept:
            return _Line(self._model.start)
        while line.users and self._entries[line.users[-1]].tokens > kept:
            self._drop(line.users[-1])
        return line

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self.bytes -= self._entry_bytes
        entry.line.users.remove(key)
        if not entry.line.users:
            self.bytes -= _token_bytes(entry.line.context)
            entry.line.context = self._model.start


def text_key(text: str) -> Key:
    """Return what stands for a text in a cache; blanks at its end count."""
    return len(text), hash(text)


def _token_bytes(context: Context) -> int:
    return context.cached.nbytes + SPELLING_BYTES * len(context.unknown)
