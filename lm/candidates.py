"""Candidates for corrections: words that may be meant where the typed letters have a slip.

No library of edit distances compares with the beginnings of words, and a pass over all words takes longer than the rest
of an answer. Here each possible slip is undone and looked up among all beginnings of words, in 30 to 120 µs.
"""
from __future__ import annotations

import functools
import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

import numpy

from nextword.lm.channel import MARKED, UNMARKED, intended, unmarked
from nextword.lm.keyboards import Keyboard

LAST = chr(0x10FFFF)
LONG = 6  # letters; from here on two slips are corrected, where one is not enough
FIRST_SLIPS = 8  # likeliest first slips that are tried for each cut
CACHED = 512  # results, as many people type the same letters


class Candidates:
    """The words of a vocabulary, found by letters with a slip."""

    def __init__(self, keys: Sequence[str]) -> None:
        """keys: the words in the form in which they are compared (`words.key`). A word's number is its place here."""
        spelled = [unmarked(word) for word in keys]
        order = sorted(range(len(keys)), key=spelled.__getitem__)
        self._sorted = [spelled[number] for number in order]
        self._numbers, self._places = numpy.array(order, numpy.int32), numpy.arange(len(order))
        marked = numpy.array([spelled[number] != keys[number] for number in order], bool)
        # The probability that a word is typed without marks (row 0), or with some (row 1)
        self._shares = numpy.stack([numpy.where(marked, UNMARKED, 1.0), numpy.where(marked, 1.0, MARKED)])
        self._followers = followers(self._sorted)
        self.find = functools.lru_cache(CACHED)(self._find)

    def _find(self, typed: str, keyboard: Keyboard, ended: float = 1.0) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The numbers (n,) int32 of the words that may be meant, each once, and their weights (n,) float32.

        The weight of a word is P(typed | word). typed: a key. Words that begin with it, but for apostrophes and
        accents, are found too.
        ended: factor of the weight of words typed to their end.
        """
        letters = unmarked(typed)
        beginnings = intended(letters, self._followers, keyboard)
        if not beginnings and letters not in self._followers and len(letters) >= LONG:
            beginnings = self._with_two_slips(letters, keyboard)
        beginnings[letters] = 1.0
        weights = numpy.empty(len(self._sorted))
        spans: list[tuple[int, int]] = []
        whole: list[tuple[int, float]] = []
        for beginning, weight in sorted(beginnings.items(), key=itemgetter(1)):  # the likeliest one overwrites others
            place = bisect_left(self._sorted, beginning)
            end = bisect_left(self._sorted, beginning + LAST, place)
            weights[place:end] = weight
            spans.append((place, end))
            while place < end and self._sorted[place] == beginning:
                whole.append((place, weight))
                place += 1
        for place, weight in whole:
            weights[place] = max(weights[place], weight * ended)
        places = numpy.concatenate([self._places[:0], *(self._places[first:end] for first, end in _outermost(spans))])
        weights = weights[places] * self._shares[int(typed != letters)][places]
        return self._numbers[places], weights.astype(numpy.float32)

    def _with_two_slips(self, letters: str, keyboard: Keyboard) -> dict[str, float]:
        """The beginnings that may be meant, each with its weight, if there are two slips.

        The first slip is before a cut, and the second one behind it. A few cuts and likely first slips are tried.
        """
        beginnings: dict[str, float] = {}
        for cut in sorted({len(letters) * part // 4 for part in (1, 2, 3)}):
            firsts = intended(letters[:cut], self._followers, keyboard)
            for first, weight in heapq.nlargest(FIRST_SLIPS, firsts.items(), key=itemgetter(1)):
                for beginning, other in intended(first + letters[cut:], self._followers, keyboard).items():
                    beginnings[beginning] = max(beginnings.get(beginning, 0.0), weight * other)
        return beginnings


def _outermost(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans that no other span contains. No two spans overlap in part."""
    last = 0
    for first, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end > last:
            yield first, end
            last = end


def followers(words: Iterable[str]) -> dict[str, str]:
    """Each beginning of sorted words → the letters that may follow it."""
    letters: dict[str, str] = {}
    for word in words:
        letters.setdefault(word, "")
        for end in range(len(word) - 1, -1, -1):
            before = letters.get(word[:end], "")
            if before[-1:] == word[end]:
                break
            letters[word[:end]] = before + word[end]
    return letters


def weight_of(typed: str, word: str, keyboard: Keyboard, ended: float = 1.0) -> float:
    """The weight of one word, as `Candidates.find` has it; 0 if more than one slip is needed. Both are keys."""
    letters, meant = unmarked(typed), unmarked(word)
    if meant.startswith(letters):
        weight = ended if meant == letters else 1.0
    elif _is_near(letters, meant):
        tree = {meant[:end]: meant[end : end + 1] for end in range(len(meant) + 1)}
        weight = max((weight * (ended if beginning == meant else 1.0)
                      for beginning, weight in intended(letters, tree, keyboard).items()), default=0.0)
    else:
        return 0.0
    if (meant != word) == (letters != typed):
        return weight
    return weight * (UNMARKED if letters == typed else MARKED)


def _is_near(typed: str, word: str) -> bool:
    """True if `typed` is a beginning of `word` but for one slip."""
    place = next((place for place, (a, b) in enumerate(zip(typed, word)) if a != b), min(len(typed), len(word)))
    rest, meant = typed[place:], word[place:]
    return (meant.startswith(rest[1:]) or meant[1:].startswith(rest) or meant[1:].startswith(rest[1:])
            or (meant[1::-1] == rest[:2] and meant[2:].startswith(rest[2:])))
