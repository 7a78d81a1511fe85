"""Forgotten words: they are cut out of all texts, and their digests are kept. This module needs only Python.

A digest tells whether a given word was forgotten, and nobody can compute the word from it. Whoever has the digests can
still guess words and compare them.
"""
from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection

from nextword.lm.words import key, words_in

GAP = "\ufffc"  # replaces a forgotten word in a text; no phrase contains it
CACHED = 50  # characters of the longest word whose digest is kept in memory


def digest(word: str) -> str:
    """A digest of a word's key (`words.key`), from which the word cannot be read."""
    return _cached_digest(word) if len(word) <= CACHED else _digest(word)


def _digest(word: str) -> str:
    return hashlib.blake2b(key(word).encode(), digest_size=8, person=b"nextword").hexdigest()


_cached_digest = functools.lru_cache(100_000)(_digest)


def parts(word: str) -> set[str]:
    """The keys of a word, of the word without a genitive ending, and of its parts between hyphens."""
    own = key(word)
    bare = own.removesuffix("'s")
    return {own, bare, own.removesuffix("'"), *bare.split("-")}


def concerns(spelling: str, word: str) -> bool:
    """True if a token is the word, its genitive, or the word joined to others by hyphens."""
    return key(word) in parts(spelling)


def without_word(text: str, word: str) -> tuple[str, int]:
    """A text with GAP in place of each token that the word concerns, and the number of these places."""
    return _cut(text, lambda spelling: concerns(spelling, word))


def without_forgotten(text: str, digests: Collection[str]) -> str:
    """A text with GAP in place of each token that a word with one of these digests concerns."""
    if not digests:
        return text
    return _cut(text, lambda spelling: any(digest(part) in digests for part in parts(spelling)))[0]


def _cut(text: str, gone: Callable[[str], bool]) -> tuple[str, int]:
    is_gone: dict[str, bool] = {}
    pieces, end, count = [], 0, 0
    for match in words_in(text):
        word = match[0]
        if word not in is_gone:
            is_gone[word] = gone(word)
        if is_gone[word]:
            pieces += [text[end : match.start()], GAP]
            end, count = match.end(), count + 1
    return "".join([*pieces, text[end:]]), count
