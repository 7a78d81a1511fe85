"""Suggestions where the typed letters may have a slip: literal completions and corrections in one ranking.

A word's score is P(word | text) × P(typed | word), by the channel of nextword.lm.channel. The typed letters can also be
meant as they stand: as a word that neither vocabulary, text nor profile has. The score of that is P(<unk> | text) × the
probability of the letters (nextword.lm.letters). Its kind is TYPED. It is offered if it is likelier than each
correction, and no known word begins as typed.

A known word typed to its end comes before all corrections. Misspellings in the training text (teh, dont) are an
exception. A word counts as one if a correction is MISSPELT times as likely here, and RARE times as frequent
(UNMARKED_RARE times if the two differ in apostrophes and accents alone). Frequencies are compared by the places in the
vocabulary, which is sorted by frequency (Zipf's law).
"""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy

from nextword.lm.candidates import LAST, Candidates, weight_of
from nextword.lm.channel import SHORTEST, unmarked
from nextword.lm.context import Distribution
from nextword.lm.keyboards import Keyboard
from nextword.lm.letters import Letters
from nextword.lm.suggestion import CORRECTION, TYPED, Word, all_capitals, logprob
from nextword.lm.vocabulary import EOS_ID, UNK_ID
from nextword.lm.words import has_letter, key, visible

ENDED = 5.0  # weight of a word typed to its end, compared with longer words; chosen on validation text
MISSPELT, RARE, UNMARKED_RARE = 5.0, 100.0, 5.0
BELOW = 0.99  # the score of the best other correction of a known word, compared with that word's
SLIGHT = 0.0005  # corrections with less than this share are not suggested
OTHER_CASE = 0.01  # factor of the probability of a spelling that lacks the typed capitals

Unknown = Mapping[str, Mapping[str, float]]  # key → spelling → probability, for words that the vocabulary lacks


class _Correction(NamedTuple):
    """A word that may be meant. spelling: its likeliest one."""

    score: float
    probability: float
    key: str
    spelling: str


class Corrections:
    """Corrects slips to the words of a vocabulary, and to words of the text that the vocabulary lacks."""

    def __init__(self, keys: Sequence[str], words: Sequence[str], tokens: numpy.ndarray, blocked: Set[str]) -> None:
        """keys: the words as they are compared, sorted. words: the spelling of each token.

        tokens: (words, most spellings) the tokens of each word, filled up with <unk>.
        blocked: keys of words that are never corrections.
        """
        self._keys, self._words, self._tokens, self._blocked = keys, words, tokens, blocked
        self._numbers = {word: number for number, word in enumerate(keys)}
        self._allowed = numpy.array([word not in blocked for word in keys], bool)
        self._cases = numpy.array([1.0 if word[:1].isupper() else OTHER_CASE for word in words], numpy.float32)
        self._ranks = tokens.max(1)
        for column in tokens.T:
            self._ranks = numpy.where(column > EOS_ID, numpy.minimum(self._ranks, column), self._ranks)
        self._candidates, self._letters = Candidates(keys), Letters(keys)

    def merged(self, literal: Mapping[str, Word], total: float, k: int, typed: str, keyboard: Keyboard,
               probabilities: numpy.ndarray, unknown: Unknown, distribution: Distribution, excluded: Set[str]
               ) -> list[Word]:
        """The k best of the literal completions, the corrections, and the typed letters themselves.

        literal: key → the words that begin as typed: the likeliest ones, and the one that is typed to its end.
        total: the probability of all words that begin as typed.
        probabilities: (V,) of the tokens that may be suggested; 0 for the others.
        unknown: words that the vocabulary lacks and that may be meant; no word that begins as typed.
        excluded: keys of words that are not suggested.
        """
        beginning = key(typed)
        own = literal.get(beginning)
        scored = [(word.probability * (ENDED if word is own else 1.0), word) for word in literal.values()]
        total += own.probability * (ENDED - 1) if own else 0.0
        corrections, corrected = self._correct(typed, beginning, k, keyboard, probabilities, unknown, excluded)
        if own:
            corrections, corrected = self._below(own.probability * ENDED, beginning, corrections, corrected)
        as_typed = 0.0
        hidden = distribution.personal is not None and distribution.personal.hides(beginning)
        if not (own or hidden or beginning in self._numbers or beginning in excluded or beginning in self._blocked):
            as_typed = self._as_typed(typed, beginning, float(distribution.probabilities[UNK_ID]))
        shared = total + corrected
        everything = shared + as_typed
        if as_typed and not literal and not any(correction.score > as_typed for correction in corrections):
            scored.append((as_typed, _word(visible(typed), as_typed, TYPED)))
            shared = everything
        scored += [(correction.score, _word(_cased(correction.spelling, typed), correction.probability, CORRECTION,
                                            min(1.0, correction.score / everything)))
                   for correction in corrections if correction.score >= SLIGHT * shared]
        scored.sort(key=lambda entry: -entry[0])
        return [word._replace(share=min(1.0, score / shared)) for score, word in scored[:k]]

    def next_letters(self, beginning: str) -> dict[str, float]:
        """The probability of each letter after the beginning of an unknown word; "" is the end of the word."""
        return self._letters.following(beginning)

    def _correct(self, typed: str, beginning: str, k: int, keyboard: Keyboard, probabilities: numpy.ndarray,
                 unknown: Unknown, excluded: Set[str]) -> tuple[list[_Correction], float]:
        """At least the k best corrections, best first; and the sum of the scores of all corrections."""
        if len(unmarked(beginning)) < SHORTEST or any(map(str.isdigit, beginning)):
            return [], 0.0
        numbers, weights = self._candidates.find(beginning, keyboard, ENDED)
        first = bisect_left(self._keys, beginning)
        kept = (numbers < first) | (numbers >= bisect_left(self._keys, beginning + LAST, first))
        kept &= self._allowed[numbers]
        numbers, weights = numbers[kept], weights[kept]
        tokens = self._tokens[numbers]
        spellings = probabilities[tokens]
        if typed[:1].isupper():
            spellings = spellings * (OTHER_CASE if all_capitals(typed) else self._cases[tokens])
        masses = spellings.sum(1)
        scores = masses * weights
        best = numpy.argsort(-scores)[:k] if len(scores) <= k else numpy.argpartition(-scores, k - 1)[:k]
        columns = spellings[best].argmax(1)
        by_key = {self._keys[number]: _Correction(score, mass, self._keys[number], self._words[token])
                 for number, score, mass, token in zip(numbers[best].tolist(), scores[best].tolist(),
                                                       masses[best].tolist(), tokens[best, columns].tolist())
                 if score > 0}
        total = float(scores.sum())
        for word, probability_of in unknown.items():
            if word in excluded or word in self._blocked:
                continue
            if weight := weight_of(beginning, word, keyboard, ENDED):
                mass = sum(probability_of.values())
                total += mass * weight
                if (number := self._numbers.get(word)) is not None:
                    mass += float(probabilities[self._tokens[number]].sum())
                spelling = max(probability_of, key=probability_of.__getitem__)
                by_key[word] = _Correction(mass * weight, mass, word, spelling)
        return sorted(by_key.values(), key=lambda correction: -correction.score), total

    def _below(self, score: float, own: str, corrections: list[_Correction], total: float
               ) -> tuple[list[_Correction], float]:
        """The corrections of a known word and their total, scaled to be below its score. Its right spelling is not."""
        right = [correction for correction in corrections
                 if correction.score >= MISSPELT * score and self._is_misspelling(own, correction.key)]
        others = [correction for correction in corrections if correction not in right]
        if not others or others[0].score < score:
            return corrections, total
        factor, fixed = BELOW * score / others[0].score, sum(correction.score for correction in right)
        others = [correction._replace(score=correction.score * factor) for correction in others]
        return right + others, fixed + (total - fixed) * factor

    def _is_misspelling(self, word: str, right: str) -> bool:
        number, other = self._numbers.get(word), self._numbers.get(right)
        if number is None or other is None:
            return False
        rare = UNMARKED_RARE if unmarked(right) == word else RARE
        return bool(self._ranks[number] >= rare * self._ranks[other])

    def _as_typed(self, typed: str, beginning: str, unk: float) -> float:
        """The score of the typed letters as a word that is known nowhere; 0 if they are no word."""
        if len(beginning) < SHORTEST or not has_letter(visible(typed)):
            return 0.0
        return unk * self._letters.probability(beginning) * (OTHER_CASE if all_capitals(typed) else 1.0)


def _word(word: str, probability: float, kind: str, confidence: float | None = None) -> Word:
    return Word(word, probability, logprob(probability), 0.0, kind, confidence)


def _cased(word: str, typed: str) -> str:
    """A word with the capitals of the typed letters: `Teh` gives The, `TEH` gives THE."""
    if all_capitals(typed):
        return word.upper()
    return word[0].upper() + word[1:] if typed[0].isupper() else word
