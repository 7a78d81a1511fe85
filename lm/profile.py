"""The profile of a person: the text that the person wrote, as numbered tokens, and decisions about single words.

A profile is text and decisions, and nothing that is derived from them. The model of the person (`lm.personal`) finds
its counts by searching the tokens, as language models on suffix arrays do (Liu et al. 2024, "Infini-gram"). So a text
counts as soon as it is learnt, taking it back leaves no trace, the order of texts does not matter, and a word of text
costs eight bytes. This module does not import torch.

Words are compared by their key (`lm.words.key`), so without letter case. A spelling is kept as the person wrote it.
"""
from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from nextword.lm.forgetting import GAP, concerns, digest, parts
from nextword.lm.vocabulary import EOS, Vocabulary
from nextword.lm.words import LONGEST_WORD, has_letter, key, straight, visible

END, FORGOTTEN = -1, -2  # in place of tokens: the limits of a text; a forgotten word
# A part of a line between two spaces that has a character outside ASCII, with the space before it
_NOT_ASCII = re.compile(r"(?:\s|(?<![^ \t\r\f\v]))[^ \t\r\f\v]*[^\x00-\x7f][^ \t\r\f\v]*", re.ASCII)
_ASCII_TOKEN = re.compile(r"\w+(?:['-]\w+)*|[^\s\w]", re.ASCII)
_ASCII_DASH = re.compile(r"(?<!-)-{2,3}(?!-)|(?<=\s)-(?=\s|$)", re.ASCII)  # see words.DASHES
_versions = itertools.count()
TAUGHT = 3  # occurrences that a taught word counts for


@dataclass(frozen=True)
class OwnWord:
    """A word of a profile: its most frequent spelling, its occurrences in any spelling, True if it was taught."""

    word: str
    count: int
    taught: bool


class Profile:
    """The text and the decisions of one person.

    >>> profile = Profile()
    >>> profile.learn("Yesterday I called Zbigniew Kowalczyk.")
    >>> [word.word for word in profile.words(known={"yesterday", "i", "called"})]
    ['Kowalczyk', 'Zbigniew']

    Attributes:
        version: a new number after each change; no two profiles have the same.
        spellings: the different tokens. A token's number is its place, and is never used for another token.
        key_numbers: key of a token → the key's number.
        taught: spelling → occurrences that it counts for, for taught words.
        blocked: keys of words that are never suggested to this person.
        forgotten: digests of the keys of forgotten words. The words themselves are kept nowhere.
    """

    def __init__(self) -> None:
        self.changed()
        self.spellings: list[str] = [EOS]
        self.key_numbers: dict[str, int] = {EOS: 0}
        self.taught: dict[str, int] = {}
        self.blocked: set[str] = set()
        self.forgotten: set[str] = set()
        self._numbers: dict[str, int] = {EOS: 0}
        self._key_of = [0]  # number of a token → number of its key
        self._next_key = 1
        self._buffer = numpy.full(64, END, numpy.int32)
        self._length = 1  # the first place is END

    def changed(self) -> None:
        """Give the profile a new version."""
        self.version = next(_versions)

    # ---- Text

    @property
    def tokens(self) -> numpy.ndarray:
        """The numbers of the tokens of all texts (n,) int32, or END or FORGOTTEN."""
        return self._buffer[: self._length]

    @property
    def keys_of_tokens(self) -> numpy.ndarray:
        """The number of a token → the number of its key, (tokens,) int32."""
        return numpy.array(self._key_of, numpy.int32)

    def __len__(self) -> int:
        """The number of tokens of all texts, line breaks included, forgotten words not."""
        return int((self.tokens >= 0).sum())

    def __bool__(self) -> bool:
        """True: a profile without text still has decisions."""
        return True

    def learn(self, text: str) -> None:
        """Learn a text: a sentence, or many paragraphs. Its words count at once.

        Forgotten words that it has may be suggested again.
        """
        self.learn_tokens(spelled_tokens(text))

    def learn_tokens(self, tokens: Sequence[str]) -> None:
        """Learn a text that is cut into tokens (`spelled_tokens`)."""
        if not tokens:
            return
        numbers = self._numbered(tokens)
        added = numpy.array([*numbers, END], numpy.int32)
        end = self._length + len(added)
        if end > len(self._buffer):
            self._buffer = numpy.concatenate([self.tokens, numpy.empty(end // 2 + len(added), numpy.int32)])
        self._buffer[self._length : end] = added
        self._length = end
        if self.forgotten:
            self.forgotten -= {digest(self.spellings[number]) for number in set(numbers) if number >= 0}
        self.changed()

    def unlearn(self, text: str) -> None:
        """Take back one earlier `learn` of this text, exactly. Words that were forgotten since then may be in the text.

        Raises ValueError if the text was not learnt, or was taken back.
        """
        numbers = self._numbered(spelled_tokens(text), new=False)
        if not numbers:
            return
        start = self._place(numbers)
        tokens = self.tokens
        tokens[start : len(tokens) - len(numbers) - 1] = tokens[start + len(numbers) + 1 :].copy()
        self._length -= len(numbers) + 1
        self.changed()

    def _place(self, numbers: list[int]) -> int:
        """The place of a learnt text among the tokens. Forgotten words match any word; a text without them is best."""
        tokens = self.tokens
        ends = numpy.flatnonzero(tokens == END)
        starts = ends[:-1][numpy.diff(ends) == len(numbers) + 1] + 1
        similar = []
        for start in starts[(tokens[starts] == numbers[0]) | (tokens[starts] == FORGOTTEN)]:
            learnt = tokens[start : start + len(numbers)]
            if (learnt == numbers).all():
                return int(start)
            if ((learnt == numbers) | (learnt == FORGOTTEN)).all():
                similar.append(int(start))
        if not similar:
            raise ValueError("this text was not learnt, or it was taken back")
        return similar[0]

    def _numbered(self, tokens: Sequence[str], new: bool = True) -> list[int]:
        """The numbers of tokens; FORGOTTEN for very long ones. new: True: number new tokens; False: as FORGOTTEN."""
        numbers = []
        for spelling in tokens:
            if spelling == GAP or len(spelling) > LONGEST_WORD:
                numbers.append(FORGOTTEN)
                continue
            number = self._numbers.get(spelling)
            if number is None:
                number = self._number(spelling) if new else FORGOTTEN
            numbers.append(number)
        return numbers

    def _number(self, spelling: str) -> int:
        number = self._numbers[spelling] = len(self.spellings)
        self.spellings.append(spelling)
        key_number = self.key_numbers.setdefault(key(spelling), self._next_key)
        self._next_key += key_number == self._next_key
        self._key_of.append(key_number)
        return number

    # ---- Decisions about words

    def teach(self, word: str, count: int = TAUGHT) -> None:
        """Suggest a word from now on, in this spelling, as if it had occurred `count` times.

        It may be a word that the service blocks, or one that was blocked or forgotten here.
        """
        word = _single(word)
        self.blocked.discard(key(word))
        self.forgotten.discard(digest(word))
        self._number_of(word)
        self.taught[word] = count
        self.changed()

    def block(self, word: str) -> None:
        """Never suggest a word to this person, until it is taught."""
        word = key(_single(word))
        self.taught = {taught: count for taught, count in self.taught.items() if key(taught) != word}
        self.blocked.add(word)
        self.changed()

    def forget(self, word: str) -> None:
        """Take a word out of all texts and decisions, with its genitive and the words joined to it by a hyphen.

        No answer has the word until it is taught or learnt anew. Only a digest of it is kept.
        """
        word = _single(word)
        gone = [number for number, spelling in enumerate(self.spellings) if concerns(spelling, word)]
        tokens = self.tokens
        tokens[numpy.isin(tokens, gone)] = FORGOTTEN
        self.taught = {taught: count for taught, count in self.taught.items() if not concerns(taught, word)}
        self.blocked = {blocked for blocked in self.blocked if not concerns(blocked, word)}
        self.forgotten.add(digest(word))
        for number in gone:  # the spellings themselves are forgotten too
            del self._numbers[self.spellings[number]]
            self.key_numbers.pop(key(self.spellings[number]), None)
            self.spellings[number] = ""
        self.changed()

    def hides(self, word_key: str) -> bool:
        """True if no answer may have the word with this key: it was blocked, or a forgotten word concerns it."""
        if word_key in self.blocked:
            return True
        return bool(self.forgotten) and any(digest(part) in self.forgotten for part in parts(word_key))

    def number(self, spelling: str) -> int | None:
        """The number of a spelling; None if the profile lacks it."""
        return self._numbers.get(spelling)

    def _number_of(self, spelling: str) -> int:
        number = self._numbers.get(spelling)
        return self._number(spelling) if number is None else number

    # ---- What it knows

    def counts(self) -> numpy.ndarray:
        """The occurrences of each token (tokens,) int64; those of taught words included."""
        tokens = self.tokens
        counts = numpy.bincount(tokens[tokens >= 0], minlength=len(self.spellings))
        for word, count in self.taught.items():
            counts[self._numbers[word]] += count
        return counts

    def words(self, known: Collection[str] = ()) -> list[OwnWord]:
        """The words of texts and those that were taught, the most frequent first, words of equal count by their key.

        known: keys of words that are left out, such as those of the vocabulary.
        """
        groups: dict[str, Counter[str]] = {}
        for spelling, count in zip(self.spellings, self.counts().tolist()):
            if count and spelling != EOS and has_letter(straight(spelling)) and (own := key(spelling)) not in known:
                groups.setdefault(own, Counter())[spelling] = count
        taught = {key(word) for word in self.taught}
        words = {own: OwnWord(min(spellings, key=lambda one: (-spellings[one], one)), sum(spellings.values()),
                              own in taught)
                 for own, spellings in groups.items()}
        return [word for _, word in sorted(words.items(), key=lambda item: (-item[1].count, item[0]))]

    def decisions(self) -> dict[str, Any]:
        """The decisions, for JSON: "taught" {spelling: count}, "blocked" [key], "forgotten" [digest], sorted."""
        return {"taught": dict(sorted(self.taught.items())), "blocked": sorted(self.blocked),
                "forgotten": sorted(self.forgotten)}

    def decide(self, decisions: dict[str, Any]) -> None:
        """Add the result of `decisions`, of this or another profile. Raises ValueError if it has another form."""
        taught, blocked, forgotten = (decisions.get(name, {}) for name in ("taught", "blocked", "forgotten"))
        if not (isinstance(taught, dict) and all(type(count) is int and count > 0 for count in taught.values())
                and all(isinstance(word, str) for word in [*taught, *blocked, *forgotten])):
            raise ValueError('decisions are {"taught": {word: count}, "blocked": [word], "forgotten": [digest]}')
        for word, count in taught.items():
            self.teach(word, count)
        for word in blocked:
            self.block(word)
        self.forgotten.update(forgotten)
        self.changed()


def profile_of(text: str) -> Profile | None:
    """A profile that has learnt a text; None if the text has no tokens."""
    profile = Profile()
    profile.learn(text)
    return profile if len(profile) else None


def spelled_tokens(text: str) -> list[str]:
    """The tokens of a text, words as they are spelled there, `<eos>` for the end of a paragraph (see lm.vocabulary).

    Two regular expressions are enough for ASCII. Only words with other characters are given to the tokenizer, which
    takes twenty times as long.
    """
    tokens: list[str] = []
    other: dict[str, list[str]] = {}
    for line, ended in _tokenizer().lines(text):
        start = 0
        for match in () if line.isascii() else _NOT_ASCII.finditer(line):
            tokens += _ascii_tokens(line[start : match.start()])
            if match[0] not in other:
                other[match[0]] = _spelled(match[0])
            tokens += other[match[0]]
            start = match.end()
        tokens += _ascii_tokens(line[start:])
        tokens += [EOS] * ended
    return tokens


def _ascii_tokens(part: str) -> list[str]:
    return _ASCII_TOKEN.findall(_ASCII_DASH.sub("\u2014", part))


def _spelled(part: str) -> list[str]:
    _, spellings = _tokenizer().encode_with_unknown(part)
    return [visible(spellings[place]) if has_letter(token) else token
            for place, token in enumerate(_tokenizer().tokens(part))]


@functools.cache
def _tokenizer() -> Vocabulary:
    return Vocabulary.of_words(())


def _single(word: str) -> str:
    """The token of a text that is one word. Raises ValueError if it is none or several."""
    tokens = [token for token in spelled_tokens(word) if token != EOS]
    if len(tokens) != 1 or tokens == [GAP]:
        raise ValueError(f"{word[:40]!r} is not one word")
    return tokens[0]
