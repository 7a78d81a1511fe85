"""A letter model of the words that a vocabulary lacks: the probability of their spelling.

It is an interpolated trigram with Witten & Bell's smoothing (1991), counted once over each word of the vocabulary.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

START, END = " ", "\n"


class Letters:
    """The probability of a letter after the two letters before it."""

    def __init__(self, words: Iterable[str]) -> None:
        padded = [f"{START}{START}{word}{END}" for word in words]
        text = "".join(padded)
        triples = Counter(zip(text, text[1:], text[2:]))
        counts: Counter[str] = Counter()
        for (first, second, letter), count in triples.items():
            if letter != START and second != END:
                for beginning in ("", second, first + second):
                    counts[beginning + letter] += count
        self._counts = counts
        self._after: Counter[str] = Counter()  # letters → the number of letters that follow them
        self._different: Counter[str] = Counter()  # letters → the number of different letters that follow them
        for letters, count in counts.items():
            self._after[letters[:-1]] += count
            self._different[letters[:-1]] += 1
        self._floor = 1 / (self._different[""] + 1)

    def probability(self, beginning: str) -> float:
        """The probability that a word begins with these letters."""
        text, probability = START + START + beginning, 1.0
        for end in range(3, len(text) + 1):
            probability *= self._next(text[end - 3 : end - 1], text[end - 1])
        return probability

    def following(self, beginning: str) -> dict[str, float]:
        """The probability of each letter after the beginning of a word; "" is the end. They sum to 1; best first."""
        before = (START + START + beginning)[-2:]
        probabilities = {letter: self._next(before, letter) for letter in self._counts if len(letter) == 1}
        total = sum(probabilities.values())
        ordered = sorted(probabilities.items(), key=lambda entry: -entry[1])
        return {"" if letter == END else letter: probability / total for letter, probability in ordered}

    def _next(self, before: str, letter: str) -> float:
        probability = self._floor
        for order in range(len(before) + 1):
            context = before[len(before) - order :]
            different = self._different[context]
            if different:
                seen = self._counts[context + letter]
                probability = (seen + different * probability) / (self._after[context] + different)
        return probability
