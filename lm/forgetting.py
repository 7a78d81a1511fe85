"""Forgotten words: they are cut out of all texts, and their digests are kept.

A digest tells whether a given word was forgotten, and nobody can compute the word from it. Whoever has the digests can
still guess words and compare them.

A text is cut by both definitions of a word: `words.words_in` and the tokenizer. Where a text has rare characters,
these differ: the two know other versions of Unicode, and the tokenizer composes characters first. Text without rare
characters needs Python alone, which takes a fraction of the time.
"""
from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from nextword.lm.words import APOSTROPHES, HEBREW, LONGEST_WORD, key, straight, visible, words_in

if TYPE_CHECKING:
    from nextword.lm.vocabulary import Vocabulary

GAP = "\ufffc"  # replaces a forgotten word in a text; no phrase contains it
CACHED = 50  # characters of the longest word whose digest is kept in memory
_PIECE = re.compile(r"[^ \t\n\r\f\v]+")  # `profile.spelled_tokens` cuts a text at these blanks, too

Span = tuple[int, int]


def digest(word: str) -> str:
    """A digest of a word's key (`words.key`), from which the word cannot be read."""
    return _cached_digest(word) if len(word) <= CACHED else _digest(word)


def _digest(word: str) -> str:
    return hashlib.blake2b(key(word).encode(), digest_size=8, person=b"nextword").hexdigest()


_cached_digest = functools.lru_cache(100_000)(_digest)


def parts(word: str) -> set[str]:
    """The keys of a word, of the word without a genitive ending, of its parts between hyphens, and of words in it."""
    word = visible(word)
    own = key(word)
    bare = own.removesuffix("'s")
    keys = {own, bare, own.removesuffix("'"), *bare.split("-")}
    if not word.isascii():  # the tokenizer knows letters that Python does not know
        keys = keys.union(*(parts(match[0]) for match in words_in(word) if match[0] != word))
    keys.discard("")
    return keys


def concerns(spelling: str, word: str) -> bool:
    """True if a token is the word, its genitive, or the word joined to others by hyphens."""
    return key(word) in parts(spelling)


def without_word(text: str, word: str) -> tuple[str, int]:
    """A text with GAP in place of each token that the word concerns, and the number of these places."""
    own = key(word)
    return _cut(text, lambda spelling: own in parts(spelling), lambda piece: own in key(piece))


def without_forgotten(text: str, digests: Collection[str]) -> str:
    """A text with GAP in place of each token that a word with one of these digests concerns."""
    if not digests:
        return text
    return _cut(text, lambda spelling: any(digest(part) in digests for part in parts(spelling)))[0]


def is_one_word(text: str) -> bool:
    """True if a text is one word, by either definition: letters or digits, with no space or mark beside them."""
    whole = (0, len(text))
    if not any(character.isalnum() for character in straight(text)):
        return False
    if any(match.span() == whole for match in words_in(text)):
        return True
    return bool(_PIECE.fullmatch(text) and _rare().search(text)) and whole in _tokenizer().spans(text)


def _cut(text: str, gone: Callable[[str], bool], likely: Callable[[str], bool] = bool) -> tuple[str, int]:
    """Put GAP in place of tokens, and count them. likely: False for a piece between blanks that has none of them."""
    gone = functools.cache(gone)
    spans = _merged([*_spans_of_words(text, gone), *_spans_of_tokens(text, gone, likely)])
    pieces, end = [], 0
    for start, stop in spans:
        pieces += [text[end:start], GAP]
        end = stop
    return "".join([*pieces, text[end:]]), len(spans)


def _spans_of_words(text: str, gone: Callable[[str], bool]) -> Iterator[Span]:
    return (match.span() for match in words_in(text) if gone(match[0]))


def _spans_of_tokens(text: str, gone: Callable[[str], bool], likely: Callable[[str], bool]) -> Iterator[Span]:
    """The spans of the tokens that are gone, in pieces with rare characters."""
    if text.isascii() or not _rare().search(text):
        return
    gone_in: dict[str, list[Span]] = {}
    for piece in _PIECE.finditer(text):
        part = piece[0]
        if part not in gone_in:
            unlikely = not _rare().search(part) or (len(part) <= LONGEST_WORD and not likely(part))
            tokens = [] if unlikely else _tokenizer().spans(part)
            gone_in[part] = [(start, end) for start, end in tokens if gone(part[start:end])]
        for start, end in gone_in[part]:
            yield piece.start() + start, piece.start() + end


def _merged(spans: list[Span]) -> list[Span]:
    """Spans in their order; those that overlap become one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


@functools.cache
def _tokenizer() -> Vocabulary:
    from nextword.lm.vocabulary import Vocabulary  # most texts do not need it

    return Vocabulary.of_words(())


@functools.cache
def _rare() -> re.Pattern[str]:
    """A pattern of one rare character: neither ASCII nor a letter, digit or mark of punctuation since Unicode 3.2.

    All versions of Unicode say the same of the others, and they are composed with no other character.
    """
    common = (character for character in map(chr, range(0x80, 0x10000)) if _is_common(character))
    return re.compile(f"[^\0-\x7f{''.join(map(re.escape, common))}]|[{HEBREW}{APOSTROPHES[2]}\u1100-\u11ff]")


def _is_common(character: str) -> bool:
    category = unicodedata.category(character)
    return (category[0] in "LP" or category == "Nd") and category != "Pc" and (
        unicodedata.ucd_3_2_0.category(character) == category and unicodedata.is_normalized("NFC", character))
