"""From a distribution over tokens to the words that a typist is offered.

Suggestions are words, never `<unk>` or `<eos>`. Emoji, and punctuation and numbers, are suggested on request only.
Spellings with the same key (see nextword.lm.words.key), such as those that differ in case alone, are one suggestion. It
has the sum of their probabilities and the spelling of the likeliest one. Where nearly all that may come begins with a
capital, as at the start of a sentence, the other suggestions get a capital too.

Some words are completed, but not suggested unprompted:
    blocked words (see nextword.lm.blocklist), until PROMPTED letters are typed;
    names that hardly more than one document of the training text has, until one letter is typed, unless the context or
    its history has them;
    stock names (the Tom and Mary of a collection of examples): until then, STOCK of their probability counts.
Half-words ("ck", where the training text has "f*ck") are never suggested.
"""
from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Set
from itertools import product, starmap
from typing import NamedTuple

import numpy
from torch import Tensor

from nextword.lm.context import Distribution
from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.lm.words import has_letter, is_emoji, key, straight, visible

LAST = chr(0x10FFFF)
RESPELLED = 0.01  # what a word counts that is not spelled with the capitals which were typed
CAPITALISED = 0.9  # share of the words' probability
PROMPTED = 3  # letters
STOCK = 0.25
ROWS = 32


class Word(NamedTuple):
    """A suggestion.

    probability: of the word given the context, in [0, 1], among all that may come.
    logprob: its natural logarithm.
    share: the same among the words that may be suggested, which begin as typed. The shares of all of them sum to 1.
    """

    word: str
    probability: float
    logprob: float
    share: float


class Kinds(NamedTuple):
    """The kinds of tokens that are suggested beside words."""

    punctuation: bool = False
    emoji: bool = False

    def include(self, kind: str) -> bool:
        return kind == "word" or getattr(self, kind)


class Keys(frozenset[str]):
    """Words in the form in which they are compared (`words.key`), for several rankings."""

    @classmethod
    def of(cls, words: Iterable[str]) -> Keys:
        return cls(map(key, words))


class Ranking:
    """The words of a vocabulary, ordered so that those with a common beginning lie side by side."""

    def __init__(self, vocabulary: Vocabulary, blocked: Collection[str] = (), names: Collection[str] = (),
                 stock: Collection[str] = (), half_words: Collection[str] = ()):
        self._words = vocabulary.words
        keys = [key(word) for word in self._words]
        self._keys = sorted(set(keys[EOS_ID + 1 :]))
        number = self._number = {word: i for i, word in enumerate(self._keys)}
        self._spellings: list[list[int]] = [[] for _ in self._keys]
        for token in range(EOS_ID + 1, len(keys)):
            self._spellings[number[keys[token]]].append(token)
        self._most_spellings = max(map(len, self._spellings), default=1)
        # Rows of equal length: what is missing is <unk>, whose probability does not count.
        self._tokens = numpy.zeros((len(self._keys), self._most_spellings), int)
        for row, tokens in zip(self._tokens, self._spellings):
            row[: len(tokens)] = tokens
        self._group = numpy.array([number.get(word, 0) for word in keys])
        self._spelled = sorted((word, token) for token, word in enumerate(self._words) if token > EOS_ID)
        self._blocked_words = {key(word) for word in blocked}
        self._blocked = numpy.array([word in self._blocked_words for word in self._keys], bool)
        held_back = dict.fromkeys(stock, STOCK) | dict.fromkeys(names, 0.0)
        self._held_back: dict[int, list[int]] = {}  # of the words that have some such spellings, these
        for token in range(EOS_ID + 1, len(keys)):
            if self._words[token] in held_back:
                self._held_back.setdefault(number[keys[token]], []).append(token)
        self._has_held_back = numpy.isin(self._group, list(self._held_back))  # of each token, whether its word does
        halves = set(half_words)
        whole = numpy.array([word not in halves for word in self._words])
        is_word = whole * numpy.array(vocabulary.is_word(), numpy.float32)
        capital = is_word * [word[0].isupper() for word in self._words]
        self._cases = numpy.stack([capital, is_word - capital]).astype(numpy.float32)
        emoji = numpy.array([is_emoji(word) for word in self._words], numpy.float32)
        marks = whole - is_word - emoji
        marks[: EOS_ID + 1] = 0
        self._allowed = {kinds: (is_word + marks * kinds.punctuation + emoji * kinds.emoji).astype(numpy.float32)
                         for kinds in starmap(Kinds, product((False, True), repeat=2))}
        share = numpy.array([held_back.get(word, 1.0) for word in self._words], numpy.float32)
        share *= ~self._blocked[self._group]
        self._unprompted = {kinds: allowed * share for kinds, allowed in self._allowed.items()}

    def best(self, distribution: Distribution, k: int, *, partial: str = "", punctuation: bool = False,
             emoji: bool = False, exclude: Collection[str] = ()) -> list[Word]:
        """The k most probable words, best first; fewer where there are not so many.

        partial: the typed beginning of the word; letter case does not matter. Where it has capitals, words with these
        capitals are likelier: of the others, RESPELLED of their probability counts, and they are spelled to fit, in
        capitals throughout where more than one letter is typed and all are capitals.
        punctuation, emoji: offer punctuation marks and numbers, or emoji, too.
        exclude: words not wanted, in any case of letters.
        """
        kinds = Kinds(punctuation, emoji)
        partial = straight(partial)
        capitals = partial if partial != partial.lower() else ""
        all_probabilities = distribution.probabilities.numpy()
        unwanted: Set[str] = exclude if isinstance(exclude, Keys) else Keys.of(exclude)
        withheld = self._withheld(partial)
        counts = self._counts(partial, distribution.seen, kinds)
        probabilities = all_probabilities * counts
        probabilities[self._tokens[[self._number[word] for word in unwanted if word in self._number]]] = 0
        if partial:
            numbers = numpy.arange(*_range(self._keys, key(partial)))
        else:
            numbers = self._likely(probabilities, k)
        groups = probabilities[self._tokens[numbers]].sum(1)
        if capitals:
            groups = self._with_capitals(groups, probabilities, capitals, numbers)
        groups[withheld[numbers]] = 0
        if len(partial) < PROMPTED:
            unwanted = unwanted | self._blocked_words
        order = numpy.argsort(-groups, kind="stable")[:k]
        chosen = numbers[order[groups[order] > 0]].tolist()
        unknown = self._unknown(distribution.unknown, key(partial), kinds)
        total = float((groups if partial else probabilities).sum())
        total += sum(_mass(spellings, capitals) for word, spellings in unknown.items() if word not in unwanted)
        # Words that the vocabulary has in other spellings only than the context have something added.
        added = [i for i in map(self._number.get, unknown) if i is not None and not withheld[i]]
        chosen = list(dict.fromkeys(chosen + added))
        spellings = {self._keys[i]: unknown.pop(self._keys[i], {}) for i in chosen}
        places = [(known, token) for known, i in zip(spellings.values(), chosen) for token in self._spellings[i]]
        tokens = [token for _, token in places]
        for (known, token), probability in zip(places, probabilities[tokens].tolist()):
            known[self._words[token]] = known.get(self._words[token], 0.0) + probability
        unknown = {word: spellings for word, spellings in unknown.items() if word not in unwanted}
        if not capitals:  # no others can be among the best
            unknown = dict(sorted(unknown.items(), key=lambda group: -sum(group[1].values()))[:k])
        found = [_suggestion(words, capitals, total)
                 for word, words in {**spellings, **unknown}.items() if word not in unwanted]
        found.sort(key=lambda word: -word.probability)
        found = [word for word in found[:k] if word.probability > 0]
        upper, lower = (self._cases @ all_probabilities).tolist()
        if not capitals and upper > CAPITALISED * (upper + lower):
            found = [word._replace(word=_capitalised(word.word)) for word in found]
        return found

    def _likely(self, probabilities: numpy.ndarray, k: int) -> numpy.ndarray:
        """The numbers of few words, among which the k with the largest sums over their spellings are.

        As many spellings as k words can have are at least `least`; so are the sums of k words, then, and the largest
        spelling of each of the best is at least that over the number of its spellings.
        """
        columns, spellings = len(probabilities) // ROWS, k * self._most_spellings
        if spellings >= columns:
            return numpy.arange(len(self._keys))
        maxima = probabilities[: ROWS * columns].reshape(ROWS, columns).max(0)
        least = numpy.partition(maxima, -spellings)[-spellings]
        likely = numpy.flatnonzero(probabilities >= least / self._most_spellings)
        return numpy.unique(self._group[likely[likely > EOS_ID]])

    def _with_capitals(self, groups: numpy.ndarray, probabilities: numpy.ndarray, typed: str, numbers: numpy.ndarray
                       ) -> numpy.ndarray:
        """The sums of words whose spellings begin as typed, and RESPELLED of those of the others."""
        first, last = bisect_left(self._spelled, (typed,)), bisect_left(self._spelled, (typed + LAST,))
        fitting = [token for _, token in self._spelled[first:last]]
        if not fitting:
            return groups * RESPELLED
        fits = numpy.bincount(self._group[fitting] - numbers[0], probabilities[fitting], minlength=len(numbers))
        return fits + RESPELLED * (groups - fits)

    def _counts(self, typed: str, seen: Tensor | None, kinds: Kinds) -> numpy.ndarray:
        """The share of its probability that each token (V,) counts; seen: the tokens of context and history."""
        if typed:
            return self._allowed[kinds]
        counts = self._unprompted[kinds]
        if seen is not None:
            tokens = seen.numpy()
            words = set(self._group[tokens[self._has_held_back[tokens]]].tolist())
            names = [token for word in words for token in self._held_back[word]]
            if names:
                counts = counts.copy()
                counts[names] = self._allowed[kinds][names] * ~self._blocked[self._group[names]]
        return counts

    def _withheld(self, typed: str) -> numpy.ndarray:
        """Which of the words are not suggested after so much of one."""
        return self._blocked if len(typed) < PROMPTED else numpy.zeros_like(self._blocked)

    def _unknown(self, unknown: dict[str, float], beginning: str, kinds: Kinds) -> dict[str, dict[str, float]]:
        """Words that the vocabulary lacks, as groups: key → spelling → probability."""
        groups: dict[str, dict[str, float]] = {}
        for spelling, probability in unknown.items():
            own_key, word, kind = _read(spelling)
            if own_key.startswith(beginning) and kinds.include(kind):
                group = groups.setdefault(own_key, {})
                group[word] = group.get(word, 0.0) + probability
        return groups

    def places(self, distribution: Distribution, word: str, most: int) -> Iterator[int]:
        """At which place (0: the best) a word stands in what `best` gives after its first 0, 1, … characters are typed;
        `most` where it is not among the first so many. Cheaper than asking `best`, which is only done for capitals.
        """
        word = straight(word)
        own_key = key(word)
        for typed in (word[:count] for count in range(len(word))):
            beginning = key(typed)
            if len(typed) < 2:  # from the first letter on, names count
                groups, others = self._masses(distribution, typed)
                own = float(groups[self._number[own_key]]) if own_key in self._number else others.get(own_key, 0.0)
                others = {other: p for other, p in others.items() if p > own}
            if len(typed) <= PROMPTED:
                withheld = self._withheld(typed)
                better = numpy.concatenate([[0], ((groups > own) & ~withheld).cumsum()])
                hidden = own_key in self._number and bool(withheld[self._number[own_key]])
                hidden |= len(typed) < PROMPTED and own_key in self._blocked_words
            if own <= 0 or hidden:
                yield most
            elif typed == typed.lower():
                first, last = _range(self._keys, beginning)
                better_others = sum(other.startswith(beginning) for other in others)
                yield min(most, int(better[last] - better[first]) + better_others)
            else:
                suggestions = [key(word.word) for word in self.best(distribution, most, partial=typed)]
                yield suggestions.index(own_key) if own_key in suggestions else most

    def _masses(self, distribution: Distribution, typed: str) -> tuple[numpy.ndarray, dict[str, float]]:
        """The probabilities of the vocabulary's words in any spelling (words,), and of words that it lacks."""
        counts = self._counts(typed, distribution.seen, Kinds())
        groups = (distribution.probabilities.numpy() * counts)[self._tokens].sum(1)
        others: dict[str, float] = {}
        for other, spellings in self._unknown(distribution.unknown, "", Kinds()).items():
            if (number := self._number.get(other)) is None:
                others[other] = sum(spellings.values())
            else:
                groups[number] += sum(spellings.values())
        return groups, others


def _range(ordered: list, beginning: str) -> tuple[int, int]:
    return bisect_left(ordered, beginning), bisect_left(ordered, beginning + LAST)


def _fitting(spellings: dict[str, float], typed: str) -> dict[str, float]:
    """The spellings that begin as typed; all of them where nothing with capitals is typed."""
    return {word: p for word, p in spellings.items() if straight(word).startswith(typed)} if typed else spellings


def _mass(spellings: dict[str, float], typed: str) -> float:
    """The probability of a word from those of its spellings; RESPELLED of those that do not fit counts."""
    total, fits = sum(spellings.values()), sum(_fitting(spellings, typed).values())
    return fits + RESPELLED * (total - fits)


def _suggestion(spellings: dict[str, float], typed: str, everything: float) -> Word:
    """One word from its spellings and their probabilities.

    typed: the beginning, where it has capitals. everything: the probability of all words that may be suggested.
    """
    fitting = _fitting(spellings, typed)
    word = max(fitting or spellings, key=(fitting or spellings).__getitem__)
    if not fitting:
        rest = _rest(word, key(typed))
        word = typed + (rest.upper() if _all_capitals(typed) else rest)
    probability = _mass(spellings, typed)
    if probability <= 0:
        return Word(word, 0.0, -math.inf, 0.0)
    return Word(word, probability, math.log(probability), min(1.0, probability / everything))


def _rest(word: str, beginning: str) -> str:
    """The part of a word after the beginning with this key, where ß is two letters: characters cannot be counted."""
    for end in range(len(word) + 1):
        read = key(word[:end])
        if read.startswith(beginning):
            return read[len(beginning) :] + word[end:]
    raise ValueError(f"{word!r} does not begin with {beginning!r}")


def _all_capitals(typed: str) -> bool:
    """Whether more than the first letter is a capital, and every one."""
    return typed.isupper() and sum(map(str.isalpha, typed)) > 1


def _capitalised(word: str) -> str:
    return word[0].upper() + word[1:] if word.islower() else word


@functools.lru_cache(10_000)
def _read(spelling: str) -> tuple[str, str, str]:
    """Its key, its visible characters, and its kind; kept, as a text is asked about again and again."""
    word = visible(spelling)
    return key(spelling), word, "emoji" if is_emoji(word) else "word" if has_letter(word) else "punctuation"
