"""The channel: from the letters that a person means to the letters that are typed.

Words are ranked by P(word | text) × P(typed | word), as Kernighan, Church & Gale 1990 do. Here `typed` may be only the
beginning of a word, so the channel gives P(typed | the beginning that is meant).

The rates of slips for each letter are those of 136 million keystrokes of 168,000 people (Dhakal, Feit, Kristensson &
Oulasvirta 2018, table 3): SUBSTITUTED, OMITTED, INSERTED. The table has no letters in the wrong order. TRANSPOSED and
the shares of single letters were chosen on validation text. This module undoes one slip.

All probabilities are relative to typing without a slip.
"""
from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from nextword.lm.keyboards import Keyboard

SUBSTITUTED = 0.0165
OMITTED = 0.0080
INSERTED = 0.0067
TRANSPOSED = 0.0040
NEAR = 0.85  # share of the substitutions that hit a neighbouring key
DOUBLED = 0.6  # share of the insertions that repeat a letter
BESIDE = 0.3  # share of the insertions that hit a neighbour of a letter beside them
NEIGHBOURS = 6  # of a key, approximately
SINGLED = 3.0  # one of two equal letters is omitted this many times as often as another letter
FIRST = 0.5  # rate of slips at the first letter, compared with the other letters
UNMARKED = 0.5  # the probability that apostrophes, hyphens and accents are left out
MARKED = 0.05  # the probability that an apostrophe, hyphen or accent is typed in a word that has none
LETTERS = 26  # letters that are equally likely where no neighbour is hit
SHORTEST = 2  # letters; shorter beginnings are not corrected
SHORT = 3  # letters; most words are near a beginning of this length or less, so only likely slips are corrected:
LIKELY = 0.0005  # the least probability of such a slip

# Apostrophe, hyphen, middle dot, and the accents and points of Latin, Greek, Cyrillic, Hebrew and Arabic
_MARKS = re.compile("['\\-\u00b7\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0670]")


def unmarked(letters: str) -> str:
    """A key (`words.key`) without apostrophes, hyphens and accents, which many people leave out."""
    if letters.isalnum() and letters.isascii():
        return letters
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", letters)))


def intended(typed: str, followers: Mapping[str, str], keyboard: Keyboard) -> dict[str, float]:
    """The beginnings that may be meant, each with P(typed | beginning), if there is one slip in the typed letters.

    followers: each beginning of a word → the letters that may follow it.
    """
    beginnings: dict[str, float] = {}
    for place, letter in enumerate(typed):
        before, after = typed[:place], typed[place + 1 :]
        letters = followers.get(before)
        if letters is None:
            break
        rate = 1.0 if place else FIRST
        previous, following = before[-1:], after[:1]
        if len(typed) > SHORTEST and before + after in followers:  # one letter too many
            _add(beginnings, before + after, rate * INSERTED * _inserted(letter, previous, following, keyboard))
        if following and following != letter and before + following + letter + after[1:] in followers:
            _add(beginnings, before + following + letter + after[1:], rate * TRANSPOSED)
        for other in letters:
            if other != letter and before + other + after in followers:
                _add(beginnings, before + other + after, rate * SUBSTITUTED * _substituted(other, letter, keyboard))
            if before + other + letter + after in followers:  # one letter too few
                _add(beginnings, before + other + letter + after,
                     rate * OMITTED * (SINGLED if other in (previous, letter) else 1.0))
    if len(typed) <= SHORT:
        return {beginning: probability for beginning, probability in beginnings.items() if probability >= LIKELY}
    return beginnings


def _inserted(letter: str, previous: str, following: str, keyboard: Keyboard) -> float:
    """The probability that an inserted letter is this one."""
    share = (1 - DOUBLED - BESIDE) / LETTERS
    if letter in (previous, following):
        return share + DOUBLED
    if any(letter in keyboard.neighbours.get(beside, ()) for beside in (previous, following)):
        return share + BESIDE / NEIGHBOURS
    return share


def _substituted(intended_letter: str, letter: str, keyboard: Keyboard) -> float:
    """The probability that `letter` is typed, if another letter is typed in place of the intended one."""
    neighbours = keyboard.neighbours.get(intended_letter)
    if neighbours is None:
        return 1 / LETTERS
    return (1 - NEAR) / LETTERS + NEAR * neighbours.get(letter, 0.0)


def _add(beginnings: dict[str, float], beginning: str, probability: float) -> None:
    beginnings[beginning] = max(beginnings.get(beginning, 0.0), probability)
