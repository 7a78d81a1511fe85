"""From a distribution over tokens to suggested words.

Suggestions are words, never `<unk>` or `<eos>`. Emoji, punctuation marks and numbers are suggested only on request.
Spellings with the same key (see nextword.lm.words.key), such as "the" and "The", are one suggestion. Its probability is
the sum of theirs, and its spelling is the likeliest one. Where nearly all likely words begin with a capital, as at the
start of a sentence, the other suggestions get a capital too.

Some words are suggested only after their first letters are typed:
    blocked words (see nextword.lm.blocklist): after PROMPTED letters;
    names of few documents (names that only one or a few documents of the training text have): after one letter, or if
    the context or its history has them;
    stock names (the Tom and Mary of a collection of examples): likewise, but before that STOCK of their probability
    counts.
Half-words ("ck", where the training text has "f*ck") are never suggested.
"""
from __future__ import annotations

import functools
import heapq
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Set
from itertools import product, starmap
from typing import NamedTuple

import numpy

from nextword.lm.channel import SHORTEST
from nextword.lm.context import Distribution
from nextword.lm.corrections import Corrections
from nextword.lm.keyboards import Keyboard
from nextword.lm.personal import PersonalWords
from nextword.lm.suggestion import COMPLETION, NEXT, TYPED, all_capitals
from nextword.lm.suggestion import Word as Word
from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.lm.words import has_letter, is_emoji, key, straight, visible

LAST = chr(0x10FFFF)
RESPELLED = 0.01  # share of its probability that counts for a spelling without the typed capitals
CAPITALISED = 0.9  # capitalised words with this share of all words' probability give every suggestion a capital
PROMPTED = 3  # typed letters after which a blocked word is suggested
STOCK = 0.25  # share of its probability that counts for a stock name
MOST_SPELLINGS = 64  # of one word; the table of all spellings is as wide as the most that a word has
NEARLY = 0.999  # of a rounded sum: a lower bound of the exact one
ROWS = 32  # rows in which `_likely` arranges the probabilities


class Kinds(NamedTuple):
    """The kinds of tokens that are suggested in addition to words."""

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
    """The words of a vocabulary, sorted so that words with the same first letters are neighbours."""

    def __init__(self, vocabulary: Vocabulary, blocked: Collection[str] = (), names: Collection[str] = (),
                 stock: Collection[str] = (), half_words: Collection[str] = ()):
        self._words = vocabulary.words
        keys = vocabulary.keys
        self._keys = sorted(set(keys[EOS_ID + 1 :]))
        number = self._number = {word: i for i, word in enumerate(self._keys)}
        spellings: list[list[int]] = [[] for _ in self._keys]
        for token in range(EOS_ID + 1, len(keys)):
            spellings[number[keys[token]]].append(token)
        self._most_spellings = max(map(len, spellings), default=1)
        if self._most_spellings > MOST_SPELLINGS:
            raise ValueError(f"a word of the vocabulary has {self._most_spellings:,} spellings; at most "
                             f"{MOST_SPELLINGS} are accepted")
        # Rows of equal length, filled up with <unk>, whose probability does not count.
        self._tokens = numpy.zeros((len(self._keys), self._most_spellings), int)
        for row, tokens in zip(self._tokens, spellings):
            row[: len(tokens)] = tokens
        self._group = numpy.array([number.get(word, 0) for word in keys])
        # The tokens in the order of their words; those of word i are from _first[i] to _first[i + 1].
        self._by_word = numpy.array([token for tokens in spellings for token in tokens], int)
        self._first = numpy.cumsum([0, *map(len, spellings)])
        self._with_capital = sorted((word, token) for token, word in enumerate(self._words)
                                    if token > EOS_ID and word != word.lower())
        self._blocked_words = {key(word) for word in blocked}
        self._blocked = numpy.array([word in self._blocked_words for word in self._keys], bool)
        held_back = dict.fromkeys(stock, STOCK) | dict.fromkeys(names, 0.0)
        self._held_back: dict[int, list[int]] = {}  # number of a word → those of its tokens that are held back
        for token in range(EOS_ID + 1, len(keys)):
            if self._words[token] in held_back:
                self._held_back.setdefault(number[keys[token]], []).append(token)
        self.has_held_back = numpy.isin(self._group, list(self._held_back))  # for each token: its word has such tokens
        halves = set(half_words)
        whole = numpy.array([word not in halves for word in self._words])
        is_word = whole * numpy.array(vocabulary.is_word(), numpy.float32)
        capital = numpy.array([word[0].isupper() for word in self._words])
        self._capitals = (is_word * (capital - CAPITALISED)).astype(numpy.float32)
        emoji = numpy.array([is_emoji(word) for word in self._words], numpy.float32)
        marks = whole - is_word - emoji
        marks[: EOS_ID + 1] = 0
        self._allowed = {kinds: (is_word + marks * kinds.punctuation + emoji * kinds.emoji).astype(numpy.float32)
                         for kinds in starmap(Kinds, product((False, True), repeat=2))}
        share = numpy.array([held_back.get(word, 1.0) for word in self._words], numpy.float32)
        share *= ~self._blocked[self._group]
        self._unprompted = {kinds: allowed * share for kinds, allowed in self._allowed.items()}

    @functools.cached_property
    def _corrections(self) -> Corrections:
        """Made when first needed: it takes 0.1 s and 10 MB."""
        return Corrections(self._keys, self._words, self._tokens, self._blocked_words)

    def best(self, distribution: Distribution, k: int, *, partial: str = "", punctuation: bool = False,
             emoji: bool = False, exclude: Collection[str] = (), keyboard: Keyboard | None = None) -> list[Word]:
        """The k most probable words, best first; fewer if fewer fit.

        partial: the typed beginning of the word, in any letter case. If it has capitals, spellings with these capitals
            are likelier: only RESPELLED of the others' probability counts. The others are spelled with the typed
            capitals; if several letters are typed and all are capitals, wholly in capitals.
        punctuation: suggest punctuation marks and numbers too. emoji: suggest emoji too.
        exclude: words that are not suggested, in any letter case.
        keyboard: the keyboard on which `partial` is typed. Its slips are corrected (see nextword.lm.corrections). None:
            only words that begin with `partial` are suggested.
        """
        kinds = Kinds(punctuation, emoji)
        partial = straight(partial)
        capitals = partial if partial != partial.lower() else ""
        excluded: Set[str] = exclude if isinstance(exclude, Keys) else Keys.of(exclude)
        withheld = self._withheld(partial, distribution.personal)
        probabilities = self._counted(partial, distribution, kinds)
        if excluded:
            probabilities[self._tokens[[self._number[word] for word in excluded if word in self._number]]] = 0
        if partial:
            first, last = _range(self._keys, key(partial))
            numbers = numpy.arange(first, last)
            groups = self._sums(probabilities, first, last)
        else:
            numbers = self._likely(probabilities, k)
            groups = probabilities[self._tokens[numbers]].sum(1)
        if capitals:
            groups = self._with_capitals(groups, probabilities, capitals, numbers)
        groups[withheld[numbers]] = 0
        if len(partial) < PROMPTED:
            excluded = excluded | self._blocked_for(distribution.personal)
        order = _largest(groups, k)
        chosen = numbers[order[groups[order] > 0]].tolist()
        beginning = key(partial)
        corrected = keyboard is not None and len(beginning) >= SHORTEST
        unknown = self._unknown(distribution, partial, kinds)
        total = float((groups if partial else probabilities).sum())
        masses = {word: _mass(spellings, capitals) for word, spellings in unknown.items() if word not in excluded}
        total += sum(masses.values())
        # The context may have a word in a spelling that the vocabulary lacks. Such spellings count for the word too.
        respelled = [i for i in map(self._number.get, unknown) if i is not None and not withheld[i]]
        ended = self._number.get(beginning) if corrected else None  # the word that the typed letters end
        respelled += [ended] if ended is not None and not withheld[ended] else []
        chosen = list(dict.fromkeys(chosen + respelled))
        spellings = {self._keys[i]: unknown.pop(self._keys[i], {}) for i in chosen}
        places = [(group, token) for group, i in zip(spellings.values(), chosen) for token in self._spellings(i)]
        tokens = [token for _, token in places]
        for (group, token), probability in zip(places, probabilities[tokens].tolist()):
            group[self._words[token]] = group.get(self._words[token], 0.0) + probability
        # The best k words of the vocabulary have this probability, so less likely others are not among the best.
        least = NEARLY * float(groups[order[-1]]) if len(order) == k and not corrected else 0.0
        others = [word for word in masses if word in unknown and (capitals or masses[word] >= least)]
        if not capitals:
            others = heapq.nlargest(k, others, key=masses.__getitem__)
        spellings |= {word: unknown[word] for word in others}
        kind = COMPLETION if partial else NEXT
        words = {word: _suggestion(group, capitals, total, kind)
                 for word, group in spellings.items() if word not in excluded}
        words = {word: suggestion for word, suggestion in words.items() if suggestion.probability > 0}
        if keyboard and corrected:
            suggestions = self._corrections.merged(words, total, k, partial, keyboard, probabilities,
                                                   self._near(distribution, beginning, kinds, keyboard), distribution,
                                                   excluded)
        else:
            suggestions = sorted(words.values(), key=lambda word: -word.probability)[:k]
        if not capitals and self._capitals @ distribution.probabilities.numpy() > 0:
            suggestions = [word if word.kind == TYPED else word._replace(word=_capitalised(word.word))
                           for word in suggestions]
        return suggestions

    def _likely(self, probabilities: numpy.ndarray, k: int) -> numpy.ndarray:
        """The numbers of a few words that include the k most probable ones.

        k words have at most k * most_spellings spellings, and at least that many spellings have a probability >=
        `least`. So at least k words have a probability >= `least`, and each of the k best has a spelling with a
        probability >= least / most_spellings.
        """
        columns, spellings = len(probabilities) // ROWS, k * self._most_spellings
        if spellings >= columns:
            return numpy.arange(len(self._keys))
        maxima = probabilities[: ROWS * columns].reshape(ROWS, columns).max(0)
        least = numpy.partition(maxima, -spellings)[-spellings]
        likely = numpy.flatnonzero(probabilities >= least / self._most_spellings)
        return numpy.array(sorted(set(self._group[likely].tolist())), int)

    def _spellings(self, number: int) -> list[int]:
        """The tokens of a word."""
        return self._by_word[self._first[number] : self._first[number + 1]].tolist()

    def _sums(self, probabilities: numpy.ndarray, first: int, last: int) -> numpy.ndarray:
        """The probability of each word from number `first` to `last`, the sum of its spellings'."""
        if first == last:
            return probabilities[:0]
        places = self._first[first : last + 1]
        return numpy.add.reduceat(probabilities[self._by_word[places[0] : places[-1]]], places[:-1] - places[0])

    def _with_capitals(self, groups: numpy.ndarray, probabilities: numpy.ndarray, typed: str, numbers: numpy.ndarray
                       ) -> numpy.ndarray:
        """The probability of each word: of its spellings with the typed capitals, plus RESPELLED of the others'."""
        spelled = self._with_capital
        first, last = bisect_left(spelled, (typed,)), bisect_left(spelled, (typed + LAST,))
        fitting = [token for _, token in spelled[first:last]]
        if not fitting:
            return groups * RESPELLED
        fits = numpy.bincount(self._group[fitting] - numbers[0], probabilities[fitting], minlength=len(numbers))
        return fits + RESPELLED * (groups - fits)

    def _counted(self, typed: str, distribution: Distribution, kinds: Kinds) -> numpy.ndarray:
        """For each token (V,), the part of its probability that counts."""
        probabilities, allowed = distribution.probabilities.numpy(), self._allowed[kinds]
        if typed:
            return probabilities * allowed
        counted = probabilities * self._unprompted[kinds]
        if distribution.personal is not None and (free := distribution.personal.allowed & self._blocked_words):
            tokens = [token for word in free & self._number.keys() for token in self._spellings(self._number[word])]
            counted[tokens] = probabilities[tokens] * allowed[tokens]
        if distribution.seen is not None:
            seen = distribution.seen.numpy()
            words = set(self._group[seen[self.has_held_back[seen]]].tolist())
            names = [token for word in words for token in self._held_back[word]]
            if names:
                counted[names] = probabilities[names] * allowed[names] * ~self._blocked[self._group[names]]
        return counted

    def _withheld(self, typed: str, personal: PersonalWords | None) -> numpy.ndarray:
        """For each word, True if it is not suggested after these typed letters."""
        if len(typed) >= PROMPTED:
            return numpy.zeros_like(self._blocked)
        if personal is None or not (free := personal.allowed & self._blocked_words):
            return self._blocked
        blocked = self._blocked.copy()
        blocked[[self._number[word] for word in free & self._number.keys()]] = False
        return blocked

    def _blocked_for(self, personal: PersonalWords | None) -> Set[str]:
        """The keys of blocked words, without those that the person allowed."""
        return self._blocked_words - personal.allowed if personal is not None else self._blocked_words

    def _unknown(self, distribution: Distribution, typed: str, kinds: Kinds) -> dict[str, dict[str, float]]:
        """Words that the vocabulary lacks and that may be suggested now, as groups: key → spelling → probability."""
        personal, unknown, beginning = distribution.personal, distribution.unknown, key(typed)
        if personal is not None:
            unknown = {**personal.beginning(beginning), **unknown}
        groups: dict[str, dict[str, float]] = {}
        for spelling, probability in unknown.items():
            own_key, word, kind = _key_word_kind(spelling)
            if own_key.startswith(beginning) and kinds.include(kind):
                if kind == "word" and personal is not None and own_key not in self._number \
                        and personal.letters(own_key) > len(beginning):
                    continue
                group = groups.setdefault(own_key, {})
                group[word] = group.get(word, 0.0) + probability
        return groups

    def _near(self, distribution: Distribution, beginning: str, kinds: Kinds, keyboard: Keyboard
              ) -> dict[str, dict[str, float]]:
        """Words that the vocabulary lacks and that do not begin as typed, but may do so but for a slip: as `_unknown`.

        beginning: the key of the typed letters. There may be some words more.
        """
        personal, unknown = distribution.personal, distribution.unknown
        if personal is not None:
            unknown = {**personal.near(beginning, keyboard), **unknown}
        groups: dict[str, dict[str, float]] = {}
        for spelling, probability in unknown.items():
            own_key, word, kind = _key_word_kind(spelling)
            first = own_key[:2]
            if (beginning[0] not in first and beginning[1] not in first) or own_key.startswith(beginning):
                continue  # the first two letters have one slip, so one of them is right
            if kinds.include(kind) and (personal is None or own_key in self._number
                                        or personal.letters(own_key) <= len(beginning)):
                group = groups.setdefault(own_key, {})
                group[word] = group.get(word, 0.0) + probability
        return groups

    def next_letters(self, distribution: Distribution, partial: str) -> dict[str, float]:
        """The probability of each letter that may follow the typed beginning of a word; "" is the end of the word.

        They are sums over all words that begin as typed, and sum to 1. The letters are those of keys (`words.key`). If
        no word begins as typed, the letters have the probabilities of a model of unknown words (nextword.lm.letters).
        """
        beginning = key(straight(partial))
        place, last = _range(self._keys, beginning)
        counted = distribution.probabilities.numpy() * self._allowed[Kinds()]
        if beginning:
            sums = counted[self._tokens[place:last]].sum(1)
        else:
            sums = numpy.bincount(self._group[EOS_ID + 1 :], counted[EOS_ID + 1 :], len(self._keys))
        masses: defaultdict[str, float] = defaultdict(float)
        first = place
        while place < last:
            letter = self._keys[place][len(beginning) : len(beginning) + 1]
            end = bisect_left(self._keys, beginning + letter + LAST, place) if letter else place + 1
            masses[letter] += float(sums[place - first : end - first].sum())
            place = end
        for word, spellings in self._unknown(distribution, beginning, Kinds()).items():
            masses[word[len(beginning) : len(beginning) + 1]] += sum(spellings.values())
        total = sum(masses.values())
        if not total > 0:
            return self._corrections.next_letters(beginning)
        ordered = sorted(masses.items(), key=lambda entry: -entry[1])
        return {letter: mass / total for letter, mass in ordered if mass > 0}

    def places(self, distribution: Distribution, word: str, most: int) -> Iterator[int]:
        """The place (0: the best) of a word in the result of `best` after 0, 1, … of its characters are typed.

        It is `most` if the word is not among the first `most`. This is faster than `best`, which is called only after
        typed capitals.
        """
        word = straight(word)
        own_key = key(word)
        for typed in (word[:count] for count in range(len(word))):
            beginning = key(typed)
            # The first letter can change the masses, because names count then. Letters change the words of a person.
            if len(typed) < 2 or distribution.personal is not None:
                groups, others = self._masses(distribution, typed)
                own = float(groups[self._number[own_key]]) if own_key in self._number else others.get(own_key, 0.0)
                others = {other: p for other, p in others.items() if p > own}
            if len(typed) <= PROMPTED or distribution.personal is not None:
                withheld = self._withheld(typed, distribution.personal)
                better = numpy.concatenate([[0], ((groups > own) & ~withheld).cumsum()])
                hidden = own_key in self._number and bool(withheld[self._number[own_key]])
                hidden |= len(typed) < PROMPTED and own_key in self._blocked_for(distribution.personal)
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
        groups = self._counted(typed, distribution, Kinds())[self._tokens].sum(1)
        others: dict[str, float] = {}
        for other, spellings in self._unknown(distribution, typed, Kinds()).items():
            if (number := self._number.get(other)) is None:
                others[other] = sum(spellings.values())
            else:
                groups[number] += sum(spellings.values())
        return groups, others


def _largest(values: numpy.ndarray, k: int) -> numpy.ndarray:
    """The places of the k largest values, the largest first, of equal ones the first."""
    if len(values) <= k:
        return numpy.argsort(-values, kind="stable")
    places = numpy.flatnonzero(values >= numpy.partition(values, -k)[-k])
    return places[numpy.argsort(-values[places], kind="stable")[:k]]


def _range(ordered: list, beginning: str) -> tuple[int, int]:
    return bisect_left(ordered, beginning), bisect_left(ordered, beginning + LAST)


def _fitting(spellings: dict[str, float], typed: str) -> dict[str, float]:
    """The spellings that begin with the typed capitals; all of them if `typed` is ""."""
    return {word: p for word, p in spellings.items() if straight(word).startswith(typed)} if typed else spellings


def _mass(spellings: dict[str, float], typed: str) -> float:
    """The probability of a word: of its spellings with the typed capitals, plus RESPELLED of the others'."""
    total = sum(spellings.values())
    if not typed:
        return total
    fits = sum(_fitting(spellings, typed).values())
    return fits + RESPELLED * (total - fits)


def _suggestion(spellings: dict[str, float], typed: str, total: float, kind: str) -> Word:
    """One word from its spellings and their probabilities.

    typed: the typed beginning if it has capitals, else "". total: the probability of all words that can be suggested.
    """
    fitting = _fitting(spellings, typed)
    word = max(fitting or spellings, key=(fitting or spellings).__getitem__)
    if not fitting:
        rest = _rest(word, key(typed))
        word = typed + (rest.upper() if all_capitals(typed) else rest)
    probability = _mass(spellings, typed)
    if probability <= 0:
        return Word(word, 0.0, -math.inf, 0.0, kind)
    return Word(word, probability, math.log(probability), min(1.0, probability / total), kind)


def _rest(word: str, beginning: str) -> str:
    """The part of a word after the beginning with this key. The key of ß has two letters, so lengths do not tell it."""
    for end in range(len(word) + 1):
        start = key(word[:end])
        if start.startswith(beginning):
            return start[len(beginning) :] + word[end:]
    raise ValueError(f"{word!r} does not begin with {beginning!r}")


def _capitalised(word: str) -> str:
    return word[0].upper() + word[1:] if word.islower() else word


@functools.lru_cache(10_000)
def _key_word_kind(spelling: str) -> tuple[str, str, str]:
    """The key, the visible characters, and the kind of a word. They are cached, as the same text comes many times."""
    word = visible(spelling)
    return key(spelling), word, "emoji" if is_emoji(word) else "word" if has_letter(word) else "punctuation"
