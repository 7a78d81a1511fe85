"""A text that the network has read, its cached tokens, and the distribution of the next token."""
from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nextword.lm.words import LONGEST_WORD

if TYPE_CHECKING:
    from nextword.lm.personal import PersonalWords

SMALLEST = torch.finfo(torch.float32).tiny  # the least probability whose logarithm is told


class CachedTokens:
    """The last tokens of a text, each with its key for the continuous cache. An instance never changes.

    keys    (n, D) float16, for each token the key (`continuous_cache.as_keys`) of the output vector that predicted it
    tokens  (n,) int64

    An instance that continues another one shares its rows. So one more word costs one row, however long the text is.
    New rows are written into free room behind the end. The first instance that continues gets that room; others copy.
    """

    def __init__(self, keys: Tensor, tokens: Tensor) -> None:
        self.keys, self.tokens = keys, tokens
        self._rows, self._first, self._end = _Rows(keys, tokens, len(tokens)), 0, len(tokens)

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that it keeps in memory: its own, those of instances that share them, and the free ones."""
        return self._rows.keys.nbytes + self._rows.tokens.nbytes

    def beginning(self, count: int) -> CachedTokens:
        """Its first `count` tokens."""
        return self if count == len(self) else self._of(self._rows, self._first, self._first + count)

    def then(self, keys: Tensor, tokens: Tensor, size: int) -> CachedTokens:
        """These tokens and more tokens (m,) with their keys (m, D): the last `size` of both together."""
        more, rows, first, end = len(tokens), self._rows, self._first, self._end
        if not rows.claim(end, more):
            first, end = 0, len(self)
            rows = _Rows.with_room(self, end + more)
        rows.keys[end : end + more], rows.tokens[end : end + more] = keys, tokens
        return self._of(rows, max(first, end + more - size), end + more)

    @staticmethod
    def _of(rows: _Rows, first: int, end: int) -> CachedTokens:
        cached = CachedTokens.__new__(CachedTokens)
        cached.keys, cached.tokens = rows.keys[first:end], rows.tokens[first:end]
        cached._rows, cached._first, cached._end = rows, first, end
        return cached


class _Rows:
    """Rows of keys and tokens; the first `written` rows are in use."""

    def __init__(self, keys: Tensor, tokens: Tensor, written: int) -> None:
        self.keys, self.tokens, self._written, self._lock = keys, tokens, written, threading.Lock()

    @classmethod
    def with_room(cls, cached: CachedTokens, count: int) -> _Rows:
        """A copy of the cached tokens, with room for `count` tokens and a quarter more."""
        room = count + count // 4 + 16
        rows = cls(cached.keys.new_empty(room, cached.keys.shape[1]), cached.tokens.new_empty(room), count)
        rows.keys[: len(cached)], rows.tokens[: len(cached)] = cached.keys, cached.tokens
        return rows

    def claim(self, end: int, count: int) -> bool:
        """Reserve `count` rows behind `end` for the caller; False if they are not free."""
        with self._lock:
            free = end == self._written and end + count <= len(self.tokens)
            self._written += count if free else 0
        return free


class Context(NamedTuple):
    """A text that the network has read. More text gives a new context and does not change this one.

    state    (S,) the network's state after the last token
    output   (D,) the output vector after the last token
    key      (D,) the key of this vector for the continuous cache
    cached   the last tokens, for the continuous cache
    unknown  place among the cached tokens → spelling, for words that the vocabulary lacks
    length   number of tokens of the whole text
    """

    state: Tensor
    output: Tensor
    key: Tensor
    cached: CachedTokens
    unknown: dict[int, str]
    length: int

    @property
    def bytes(self) -> int:
        """Approximate size in memory."""
        parts = (self.state, self.output, self.key, self.cached)
        return sum(part.nbytes for part in parts) + 200 * (len(self.unknown) + 4)

    def read_on(self, tokens: Tensor, spellings: dict[int, str], outputs: Tensor, keys: Tensor, state: Tensor, size: int
                ) -> Context:
        """This context after more tokens (m,); the last `size` tokens are cached.

        outputs: the output vectors (m, D) after the tokens. keys: the keys (m, D) of these vectors.
        state: the state (S,) after the last token.
        spellings: place among the new tokens → spelling, for words that the vocabulary lacks. Longer ones than
            LONGEST_WORD are not kept.
        """
        if not len(tokens):
            return self
        before = torch.cat([self.key[None], keys[:-1]]) if len(tokens) > 1 else self.key[None]
        cached = self.cached.then(before, tokens, size)
        shift = len(self.cached)
        drop = shift + len(tokens) - len(cached)
        new = {place + shift: word for place, word in spellings.items() if len(word) <= LONGEST_WORD}
        unknown = {**self.unknown, **new}
        unknown = {place - drop: word for place, word in unknown.items() if place >= drop}
        return Context(state, outputs[-1].clone(), keys[-1].clone(), cached, unknown, self.length + len(tokens))


class Distribution:
    """Probabilities of the next token. Either they or their logarithms are given; the others are computed when needed.

    log_probs, probabilities   (V,)
    unknown                    spelling → probability, for words that the vocabulary lacks
    seen                       (n,) int64 the tokens of the text, of its history and of the person's profile
    personal                   more about the person's words, where a history or a profile was given
    bytes                      approximate size in memory, of what is given
    """

    def __init__(self, log_probs: Tensor | None, unknown: dict[str, float], seen: Tensor | None = None,
                 probabilities: Tensor | None = None, personal: PersonalWords | None = None) -> None:
        if log_probs is None and probabilities is None:
            raise TypeError("a Distribution needs log_probs or probabilities")
        self._log_probs, self._probabilities = log_probs, probabilities
        self.unknown, self.seen, self.personal = unknown, seen, personal
        tensors = [tensor for tensor in (log_probs, probabilities, seen) if tensor is not None]
        self.bytes = sum(tensor.nbytes for tensor in tensors) + 200 * len(unknown)

    @property
    def log_probs(self) -> Tensor:
        if self._log_probs is None:
            assert self._probabilities is not None
            self._log_probs = self._probabilities.clamp(min=SMALLEST).log()
        return self._log_probs

    @property
    def probabilities(self) -> Tensor:
        if self._probabilities is None:
            assert self._log_probs is not None
            self._probabilities = self._log_probs.exp()
        return self._probabilities
