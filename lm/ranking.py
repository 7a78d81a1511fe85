"""From a distribution over tokens to the words that a typist is offered.

Words only: never `<unk>` or `<eos>`, and other tokens (punctuation, numbers) only where asked for. Spellings that differ
in case alone are one suggestion: it has the probability of all of them together, and is spelled as the likeliest one;
where nearly all that may come begins with a capital, as at the start of a sentence, the rest is given one too.

Some words are only completed, not suggested unprompted: blocked ones (see lm.blocklist) before PROMPTED letters are typed;
and names that hardly more than one document has, before one letter is, unless they occur in the context or its history.
"""
from __future__ import annotations

import functools
import heapq
import math
from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from lm.context import Distribution
from lm.vocabulary import EOS_ID, Vocabulary, has_letter

LAST = chr(0x10FFFF)
RESPELLED = 0.01  # what a word counts that is not spelled with the capitals which were typed
CAPITALISED = 0.9  # share of the words' probability
PROMPTED = 3  # letters
ROWS = 128


class Word(NamedTuple):
    """A suggestion: the word, its probability in [0, 1] given the context, and the natural logarithm of that."""

    word: str
    probability: float
    logprob: float


class Ranking:
    """The words of a vocabulary, ordered so that those with a common beginning lie side by side."""

    def __init__(self, vocabulary: Vocabulary, blocked: Collection[str] = (), names: Collection[str] = ()):
        self._words = vocabulary.words
        folded = [word.casefold() for word in self._words]
        self._keys = sorted({key for i, key in enumerate(folded) if i > EOS_ID})
        number = self._number = {key: i for i, key in enumerate(self._keys)}
        self._spellings: list[list[int]] = [[] for _ in self._keys]
        for i, key in enumerate(folded):
            if i > EOS_ID:
                self._spellings[number[key]].append(i)
        self._group = torch.tensor([number[key] if i > EOS_ID else 0 for i, key in enumerate(folded)])
        self._first = torch.tensor([tokens[0] for tokens in self._spellings])
        self._more = torch.tensor([token for tokens in self._spellings for token in tokens[1:]], dtype=torch.long)
        self._more_group = self._group[self._more]
        self._blocked_words = {straight(word).casefold() for word in blocked}
        self._blocked = torch.tensor([key in self._blocked_words for key in self._keys])
        names = {word.casefold() for word in names}
        self._names = torch.tensor([key in names for key in self._keys])
        words = vocabulary.is_word()
        self._capital = torch.tensor([float(fine and word[0].isupper()) for fine, word in zip(words, self._words)])
        self._small = torch.tensor(words, dtype=torch.float32) - self._capital
        anything = torch.ones(len(folded))
        anything[: EOS_ID + 1] = 0
        self._allowed = {True: anything, False: torch.tensor(words, dtype=torch.float32)}

    def best(self, distribution: Distribution, k: int, *, partial: str = "", punctuation: bool = False,
             exclude: Collection[str] = ()) -> list[Word]:
        """The k most probable words, best first; fewer where there are not so many.

        partial: what is typed of the word so far; the words begin with it in any case of letters. Where it has capitals,
        words that are spelled so are likelier: the others count RESPELLED of their probability and are spelled to fit.
        exclude: words not wanted, in any case of letters.
        """
        partial = straight(partial)
        allowed = self._allowed[punctuation]
        probabilities = distribution.probabilities * allowed
        first, last = self._range(partial.casefold())
        groups = self._together(probabilities)
        groups = groups.masked_fill(self._withheld(partial, distribution.seen), -1)[first:last]
        unknown = self._unknown(distribution.unknown, partial.casefold(), punctuation)
        unwanted = {straight(word).casefold() for word in exclude}
        capitals = partial != partial.casefold()
        # With capitals any of them may be overtaken, by one that is spelled as typed.
        take = last - first if capitals else min(last - first, k + len(unwanted))
        chosen = [first + int(i) for i in _largest(groups.numpy(), take) if groups[i] >= 0]
        if len(partial) < PROMPTED:
            unwanted |= self._blocked_words
        # Words that the vocabulary has in other spellings only than the context have something added.
        added = [i for i in map(self._number.get, unknown) if i is not None and groups[i - first] >= 0]
        chosen = list(dict.fromkeys(chosen + added))
        spellings = {self._keys[i]: unknown.pop(self._keys[i], {}) for i in chosen}
        places = [(known, token) for known, i in zip(spellings.values(), chosen) for token in self._spellings[i]]
        tokens = [token for _, token in places]
        for (known, token), probability, counts in zip(places, distribution.of(tokens), allowed[tokens].tolist()):
            known[self._words[token]] = known.get(self._words[token], 0.0) + probability * counts
        if not capitals:  # no others can be among the best
            unknown = dict(heapq.nlargest(k + len(unwanted), unknown.items(), key=lambda group: sum(group[1].values())))
        found = [_suggestion(words, partial if capitals else "")
                 for key, words in {**spellings, **unknown}.items() if key not in unwanted]
        found.sort(key=lambda word: -word.probability)
        found = [word for word in found[:k] if word.probability > 0]
        upper, lower = float(probabilities @ self._capital), float(probabilities @ self._small)
        if not capitals and upper > CAPITALISED * (upper + lower):
            found = [word._replace(word=_capitalised(word.word)) for word in found]
        return found

    def _withheld(self, typed: str, seen: Tensor | None) -> Tensor:
        """Which of the words are not suggested after so much of one; seen: the tokens of context and history."""
        if typed:
            return self._blocked if len(typed) < PROMPTED else torch.zeros_like(self._blocked)
        names = self._names
        if seen is not None:
            names = names.index_fill(0, self._group[seen], False)
        return self._blocked | names

    def _unknown(self, unknown: dict[str, float], beginning: str, punctuation: bool) -> dict[str, dict[str, float]]:
        """Words that the vocabulary lacks, as groups: case-folded word → spelling → probability."""
        groups: dict[str, dict[str, float]] = {}
        for spelling, probability in unknown.items():
            key, is_word = _read(spelling)
            if key.startswith(beginning) and (punctuation or is_word):
                groups.setdefault(key, {})[spelling] = probability
        return groups

    def places(self, distribution: Distribution, word: str, most: int) -> Iterator[int]:
        """At which place (0: the best) a word stands in what `best` gives after its first 0, 1, … characters are typed;
        `most` where it is not among the first so many. Cheaper than asking `best`, which is only done for capitals.
        """
        word = straight(word)
        key = word.casefold()
        groups = self._together(distribution.probabilities * self._allowed[False])
        others: dict[str, float] = {}  # words that the vocabulary has in no spelling
        for other, spellings in self._unknown(distribution.unknown, "", False).items():
            if (number := self._number.get(other)) is None:
                others[other] = sum(spellings.values())
            else:
                groups[number] += sum(spellings.values())
        own = float(groups[self._number[key]]) if key in self._number else others.get(key, 0.0)
        others = {other: p for other, p in others.items() if p > own}
        for typed in (word[:count] for count in range(len(word))):
            beginning = typed.casefold()
            if len(typed) <= PROMPTED:
                withheld = self._withheld(typed, distribution.seen)
                better = torch.cat([torch.zeros(1, dtype=torch.long), ((groups > own) & ~withheld).cumsum(0)])
                hidden = key in self._number and bool(withheld[self._number[key]])
                hidden |= len(typed) < PROMPTED and key in self._blocked_words
            if own <= 0 or hidden:
                yield most
            elif typed == beginning:
                first, last = self._range(beginning)
                yield min(most, int(better[last] - better[first]) + sum(other.startswith(beginning) for other in others))
            else:
                found = [straight(w.word).casefold() for w in self.best(distribution, most, partial=typed)]
                yield found.index(key) if key in found else most

    def _together(self, probabilities: Tensor) -> Tensor:
        """Probabilities of spellings (…, V) → of words whatever their case (…, words)."""
        together = probabilities.index_select(-1, self._first)
        return together.index_add_(-1, self._more_group, probabilities.index_select(-1, self._more))

    def _range(self, beginning: str) -> tuple[int, int]:
        return bisect_left(self._keys, beginning), bisect_left(self._keys, beginning + LAST)


def _largest(values: numpy.ndarray, k: int) -> numpy.ndarray:
    """The places of the k largest values, the largest first. All of them are at least the kth largest of any blocks'
    maxima, and few others are; that is found in a third of the time of a top-k over all.
    """
    columns = len(values) // ROWS
    places = numpy.arange(len(values))
    if 0 < k < columns // 2:
        maxima = values[: ROWS * columns].reshape(ROWS, columns).max(0)
        places = numpy.flatnonzero(values >= numpy.partition(maxima, -k)[-k])
    return places[numpy.argsort(-values[places], kind="stable")][:k]


def _suggestion(spellings: dict[str, float], typed: str) -> Word:
    """One word from its spellings and their probabilities; `typed`: the beginning, where it has capitals."""
    fitting = {word: p for word, p in spellings.items() if straight(word).startswith(typed)}
    word = max(fitting or spellings, key=(fitting or spellings).__getitem__)
    total, fits = sum(spellings.values()), sum(fitting.values())
    if not fitting:
        word = typed + word[len(typed):]
    probability = fits + RESPELLED * (total - fits) if typed else total
    return Word(word, probability, math.log(probability) if probability > 0 else -math.inf)


def _capitalised(word: str) -> str:
    return word[0].upper() + word[1:] if word.islower() else word


@functools.lru_cache(10_000)
def _read(spelling: str) -> tuple[str, bool]:
    """Its key, and whether it is a word; kept, as a text is asked about again and again."""
    return straight(spelling).casefold(), has_letter(spelling)


def straight(text: str) -> str:
    """Curly apostrophes made straight, as the vocabulary has them."""
    return text.replace("\u2019", "'").replace("\u2018", "'")
