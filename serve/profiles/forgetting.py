"""Forgotten words: a profile keeps their digests, and no text that has them.

A digest tells whether a word is a forgotten one, and does not tell which word was forgotten. Who has the store can
still guess words and compare their digests.
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import blake2b

from nextword.lm.words import key, words_in

GAP = "\ufffc"  # in place of a word that was cut out: no phrase goes over it


def digest(word: str) -> str:
    """Return the digest of a word, the same for each letter case and typed form (`lm.words.key`)."""
    return blake2b(key(word).encode(), digest_size=8, person=b"nextword").hexdigest()


def parts(word: str) -> set[str]:
    """Return the keys that a word has or contains: of itself, without a genitive ending, of its parts at hyphens."""
    own = key(word)
    bare = own.removesuffix("'s")
    return {own, bare, own.removesuffix("'"), *bare.split("-")}


def without_word(text: str, word: str) -> tuple[str, int]:
    """Return a text without a word, and the number of places where it was.

    The genitive of the word, and words that are joined to it by hyphens, are cut out too.
    """
    own = key(word)
    return _cut(text, lambda found: own in parts(found))


def without_forgotten(text: str, digests: Collection[str]) -> str:
    """Return a text without the words that have one of these digests."""
    if not digests:
        return text
    return _cut(text, lambda found: any(digest(part) in digests for part in parts(found)))[0]


def _cut(text: str, gone: Callable[[str], bool]) -> tuple[str, int]:
    known: dict[str, bool] = {}
    pieces, end, count = [], 0, 0
    for match in words_in(text):
        word = match[0]
        if word not in known:
            known[word] = gone(word)
        if known[word]:
            pieces += [text[end : match.start()], GAP]
            end, count = match.end(), count + 1
    return "".join([*pieces, text[end:]]), count
