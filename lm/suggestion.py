"""A suggested word."""
from __future__ import annotations

import math
from typing import NamedTuple

NEXT, COMPLETION, CORRECTION, TYPED = "next", "completion", "correction", "typed"


class Word(NamedTuple):
    """A suggestion.

    probability: of the word given the context, in [0, 1].
    logprob: the natural logarithm of `probability`.
    share: the probability among all words that can be suggested after the typed letters. The shares of all those words
        sum to 1. Where slips are corrected, it takes P(typed letters | word) into account.
    kind: NEXT where nothing is typed. COMPLETION: the word begins as typed. CORRECTION: it does not, because of a slip.
        TYPED: the typed letters themselves, as a word that nothing here knows.
    confidence: of a correction, the probability that it is the word that was meant; None for other kinds.
    """

    word: str
    probability: float
    logprob: float
    share: float
    kind: str = NEXT
    confidence: float | None = None


def logprob(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


def all_capitals(typed: str) -> bool:
    """True if there are several letters, and all are capitals."""
    return typed.isupper() and sum(map(str.isalpha, typed)) > 1
