"""From a distribution over tokens to the words that a typist is offered.

Words only: never `<unk>` or `<eos>`, and other tokens (punctuation, numbers) only where asked for. Spellings that differ
in case alone are one suggestion: it has the probability of all of them together, and is spelled as the likeliest one.
"""
from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from lm.context import Distribution
from lm.vocabulary import EOS_ID, Vocabulary, has_letter

LAST = chr(0x10FFFF)
RESPELLED = 0.01  # what a word counts that is not spelled with the capitals which were typed


class Word(NamedTuple):
    """A suggestion: the word, its probability in [0, 1] given the context, and the natural logarithm of that."""

    word: str
    probability: float
    logprob: float


class Ranking:
    """The words of a vocabulary, ordered so that those with a common beginning lie side by side."""

    def __init__(self, vocabulary: Vocabulary):
        self._words = vocabulary.words
        folded = [word.casefold() for word in self._words]
        self._keys = sorted({key for i, key in enumerate(folded) if i > EOS_ID})
        number = {key: i for i, key in enumerate(self._keys)}
        self._spellings: list[list[int]] = [[] for _ in self._keys]
        for i, key in enumerate(folded):
            if i > EOS_ID:
                self._spellings[number[key]].append(i)
        self._group = torch.tensor([number[key] if i > EOS_ID else 0 for i, key in enumerate(folded)])
        anything = torch.ones(len(folded))
        anything[: EOS_ID + 1] = 0
        self._allowed = {True: anything, False: torch.tensor(vocabulary.is_word(), dtype=torch.float32)}

    def best(self, distribution: Distribution, k: int, *, partial: str = "", punctuation: bool = False,
             exclude: Collection[str] = ()) -> list[Word]:
        """The k most probable words, best first; fewer where there are not so many.

        partial: what is typed of the word so far; the words begin with it in any case of letters. Where it has capitals,
        words that are spelled so are likelier: the others count RESPELLED of their probability and are spelled to fit.
        exclude: words not wanted, in any case of letters.
        """
        partial = straight(partial)
        probabilities = distribution.log_probs.exp() * self._allowed[punctuation]
        first, last = self._range(partial.casefold())
        groups = self._together(probabilities)[first:last]
        unknown = self._unknown(distribution.unknown, partial.casefold(), punctuation)
        unwanted = {straight(word).casefold() for word in exclude}
        capitals = partial != partial.casefold()
        # Any of these may be overtaken: with capitals by one spelled as typed, else by one that the vocabulary lacks.
        take = last - first if capitals else min(last - first, k + len(unwanted) + len(unknown))
        values, indices = groups.topk(take)
        spellings = {key: unknown.pop(key, {}) for key in [self._keys[first + i] for i in indices.tolist()]}
        for key, i in zip(spellings, indices.tolist()):
            for token in self._spellings[first + i]:
                word = self._words[token]
                spellings[key][word] = spellings[key].get(word, 0.0) + float(probabilities[token])
        found = [_suggestion(words, partial if capitals else "")
                 for key, words in {**spellings, **unknown}.items() if key not in unwanted]
        found.sort(key=lambda word: -word.probability)
        return [word for word in found[:k] if word.probability > 0]

    def _unknown(self, unknown: dict[str, float], beginning: str, punctuation: bool) -> dict[str, dict[str, float]]:
        """Words that the vocabulary lacks, as groups: case-folded word → spelling → probability."""
        groups: dict[str, dict[str, float]] = {}
        for spelling, probability in unknown.items():
            key = straight(spelling).casefold()
            if key.startswith(beginning) and (punctuation or has_letter(spelling)):
                groups.setdefault(key, {})[spelling] = probability
        return groups

    def rank(self, log_probs: Tensor, ids: Tensor) -> Tensor:
        """At which place (0: the best) a word stands among the suggestions: log_probs (n, V), ids (n,) → (n,) int64."""
        groups = self._together(log_probs.exp() * self._allowed[False])
        return (groups > groups.gather(-1, self._group[ids][:, None])).sum(-1)

    def _together(self, probabilities: Tensor) -> Tensor:
        """Probabilities of spellings (…, V) → of words whatever their case (…, words)."""
        shape = (*probabilities.shape[:-1], len(self._keys))
        return torch.zeros(shape).index_add_(-1, self._group, probabilities)

    def _range(self, beginning: str) -> tuple[int, int]:
        return bisect_left(self._keys, beginning), bisect_left(self._keys, beginning + LAST)


def _suggestion(spellings: dict[str, float], typed: str) -> Word:
    """One word from its spellings and their probabilities; `typed`: the beginning, where it has capitals."""
    fitting = {word: p for word, p in spellings.items() if straight(word).startswith(typed)}
    word = max(fitting or spellings, key=(fitting or spellings).__getitem__)
    total, fits = sum(spellings.values()), sum(fitting.values())
    if not fitting:
        word = typed + word[len(typed):]
    probability = fits + RESPELLED * (total - fits) if typed else total
    return Word(word, probability, math.log(probability) if probability > 0 else -math.inf)


def straight(text: str) -> str:
    """Curly apostrophes made straight, as the vocabulary has them."""
    return text.replace("\u2019", "'").replace("\u2018", "'")
