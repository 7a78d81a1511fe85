"""Figures for slips of the finger: how a model's suggestions cope with wrong letters.

Slips are drawn from two sources. CHANNEL has the rates with which the model corrects (nextword.lm.channel). OTHER is
different, as a check: the four kinds of slips are equally likely, and a wrong letter can be any.
"""
from __future__ import annotations

import random
import string
from collections.abc import Callable

from nextword.lm import channel
from nextword.lm.context import Distribution
from nextword.lm.keyboards import keyboard
from nextword.lm.model import Model
from nextword.lm.suggestion import CORRECTION, Word
from nextword.lm.words import key

CHANNEL, OTHER = "channel", "other"
OFFERED = 3  # suggestions while a person types
WHOLE, PART = 4, 6  # letters of the shortest word that is typed to its end, or in part, with one slip
WRONG_KEYS = 0.05
THRESHOLDS = (0.5, 0.7, 0.9, 0.95)
LETTERS = string.ascii_lowercase
TRIES = 20  # draws of a slip; the result must be no word of the vocabulary

DEFINITION = (
    f"whole_1, whole_3: a word of {WHOLE} letters or more is typed to its end with one slip, and is the first of the "
    f"suggestions or among {OFFERED}; the typed letters are no word of the vocabulary. part_3: the same after three "
    f"quarters of the letters of a word of {PART} or more. kept_1: a word of {WHOLE} letters or more is typed rightly "
    f"to its end and is the first suggestion. savings: keystroke savings with {OFFERED} suggestions where slips are "
    f"corrected. savings_wrong_keys: the same where each letter is a neighbour's with probability {WRONG_KEYS}; a word "
    "that is never offered costs 2 keys more for each wrong letter. precision: any word is typed to its end, with "
    "slips at the channel's rates, and the first suggestion is a correction of at least this confidence; the share of "
    "them that is right. repaired: the share of words with slips that become right so. harmed: the share of words "
    "without slips that become wrong so"
)


class Slips:
    """Counts over words, at positions that are added."""

    def __init__(self, model: Model) -> None:
        self._model, self._keyboard = model, keyboard()
        self._vocabulary = set(model.vocabulary.keys)
        self._hits: dict[str, list[int]] = {}
        self._keys = {"savings": 0, "savings_wrong_keys": 0}
        self._letters = 0

    def add(self, distribution: Distribution, word: str, seed: int) -> None:
        """word: the word that follows. seed: decides which slips are drawn."""
        rng = random.Random(seed)
        whole = len(word) >= WHOLE and word.isalpha()
        for source, slip in ((CHANNEL, self._channel_slip), (OTHER, _other_slip)):
            if whole and (typed := self._misspelt(word, slip, rng)):
                place = self._place(distribution, typed, word)
                self._count(f"{source} whole_1", place == 0)
                self._count(f"{source} whole_3", place < OFFERED)
            beginning = word[: max(4, -(-3 * len(word) // 4))]
            if whole and len(word) >= PART and (typed := self._misspelt(beginning, slip, rng)):
                self._count(f"{source} part_3", self._place(distribution, typed, word) < OFFERED)
            self._add_replacement(distribution, word, source, slip, rng)
        if whole:
            self._count("kept_1", self._place(distribution, word, word) == 0)
        self._letters += len(word) + 1
        self._keys["savings"] += self._typing(distribution, word, 0.0, rng)
        self._keys["savings_wrong_keys"] += self._typing(distribution, word, WRONG_KEYS, rng)

    def figures(self) -> dict:
        if not self._letters:
            return {"words": 0}
        flat = {name: sum(hits) / len(hits) for name, hits in self._hits.items() if hits}
        result: dict = {name: 1 - keys / self._letters for name, keys in self._keys.items()}
        for name, share in flat.items():
            source, _, figure = name.rpartition(" ")
            (result.setdefault(source, {}) if source else result)[figure] = share
        return {**result, "definition": DEFINITION}

    def _count(self, name: str, hit: bool) -> None:
        self._hits.setdefault(name, []).append(int(hit))

    def _suggestions(self, distribution: Distribution, typed: str) -> list[Word]:
        return self._model.rank(distribution, OFFERED, partial=typed, keyboard=self._keyboard)

    def _place(self, distribution: Distribution, typed: str, word: str) -> int:
        keys = [key(suggestion.word) for suggestion in self._suggestions(distribution, typed)]
        return keys.index(key(word)) if key(word) in keys else OFFERED

    def _typing(self, distribution: Distribution, word: str, rate: float, rng: random.Random) -> int:
        """The keys for a word that is taken as soon as it is offered."""
        typed, wrong = "", 0
        for letter in word:
            if self._place(distribution, typed, word) < OFFERED:
                return len(typed) + 1
            neighbours = self._keyboard.neighbours.get(key(letter))
            if neighbours and rng.random() < rate:
                letter, wrong = _drawn(neighbours, rng), wrong + 1
            typed += letter
        return len(word) + 1 + 2 * wrong

    def _add_replacement(self, distribution: Distribution, word: str, source: str,
                         slip: Callable[[str, random.Random], str], rng: random.Random) -> None:
        typed = word
        for _ in word:
            if typed and rng.random() < channel.SUBSTITUTED + channel.OMITTED + channel.INSERTED + channel.TRANSPOSED:
                typed = slip(typed, rng)
        suggestions = self._suggestions(distribution, typed) if len(typed) > 1 else []
        first = suggestions[0] if suggestions and suggestions[0].kind == CORRECTION else None
        for threshold in THRESHOLDS:
            replaced = first is not None and (first.confidence or 0) >= threshold
            right = first is not None and key(first.word) == key(word)
            if replaced:
                self._count(f"{source} precision_{threshold:g}", right)
            if typed != word:
                self._count(f"{source} repaired_{threshold:g}", replaced and right)
            else:
                self._count(f"{source} harmed_{threshold:g}", replaced and not right)

    def _misspelt(self, word: str, slip: Callable[[str, random.Random], str], rng: random.Random) -> str | None:
        """The word with one slip; None if each draw gives a word of the vocabulary."""
        drawn = (slip(word, rng) for _ in range(TRIES))
        return next((typed for typed in drawn if typed and key(typed) not in self._vocabulary), None)

    def _channel_slip(self, word: str, rng: random.Random) -> str:
        """The word with one slip of the channel, at a random letter."""
        rates = {"substituted": channel.SUBSTITUTED, "omitted": channel.OMITTED, "inserted": channel.INSERTED,
                 "transposed": channel.TRANSPOSED}
        while True:
            place, kind = rng.randrange(len(word)), _drawn(rates, rng)
            letter, before, after = word[place], word[:place], word[place + 1 :]
            neighbours = self._keyboard.neighbours.get(key(letter)) or dict.fromkeys(LETTERS, 1.0)
            beside = _as_typed(_drawn(neighbours, rng), letter)
            other = _as_typed(rng.choice(LETTERS), letter)
            if (place == 0 and rng.random() >= channel.FIRST) or (kind == "transposed" and not after):
                continue
            if kind == "substituted":
                typed = before + (beside if rng.random() < channel.NEAR else other) + after
            elif kind == "omitted":
                typed = before + after
            elif kind == "inserted":
                share = rng.random()
                extra = beside if share < channel.DOUBLED + channel.BESIDE else other
                typed = before + letter + (letter if share < channel.DOUBLED else extra) + after
            else:
                typed = before + after[0] + letter + after[1:]
            if typed != word or len(word) == 1:
                return typed


def _other_slip(word: str, rng: random.Random) -> str:
    place = rng.randrange(len(word))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    other = _as_typed(rng.choice(LETTERS), letter)
    return rng.choice((before + other + after, before + after, before + other + letter + after,
                       before + after[:1] + letter + after[1:]))


def _drawn(weights: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _as_typed(letter: str, instead: str) -> str:
    return letter.upper() if instead.isupper() else letter
