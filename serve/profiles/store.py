"""The store of profiles, as the HTTP process and the workers use it.

A profile is what one person has taught: texts, each with an id; words that were taught alone; and the digests of
forgotten words (`lm.forgetting`). The workers compute counts and models from it, so a new bundle needs no conversion.

The HTTP process writes. When a method returns, its change is saved, even if the process or the machine dies right then.
A worker compares the state of a profile at each question, and reads what is new.
"""
from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from nextword.lm.forgetting import without_forgotten, without_word
from nextword.lm.words import key, words_in
from nextword.serve.profiles.faults import ProfileFull, StoreDamaged, StoreFull

SHORTEST = 50  # characters that a shorter text, a taught word and a forgotten word count as
TAUGHT = 3  # occurrences that a taught word counts for

ProfileKey = str  # the digest of the owner's API key, a slash, and the name of the profile
Number = Annotated[int, Field(ge=0, lt=2**40)]  # seconds since 1970, and counts
Value = TypeVar("Value")

NUMBERS = TypeAdapter(list[Number])
TEXT = TypeAdapter(tuple[str, str, Number, Number])  # the fields of a LearnedText
TAUGHT_WORDS = TypeAdapter(dict[str, Annotated[int, Field(ge=1, lt=2**40)]])


class Limits(NamedTuple):
    """The most that is kept.

    profiles    in all
    characters  of the texts of one profile
    drop        at the limit of profiles, drop the least recently used one of the same owner for a new one
    """

    profiles: int = 10_000
    characters: int = 1_000_000
    drop: bool = False


DEFAULT = Limits()


class State(NamedTuple):
    """The state of a profile, for a comparison with an earlier one.

    born      tells a profile from a deleted one of the same name
    version   grows by one with each change
    removals  the version of the last change other than a new text
    """

    born: str
    version: int
    removals: int

    def has_only_grown(self, known: State | None) -> bool:
        """Whether all changes since an earlier state are new texts."""
        return known is not None and known.born == self.born and self.removals <= known.version


@dataclass(slots=True)
class LearnedText:
    """A text of a profile. learned: seconds since 1970. words: the number of its words."""

    id: str
    text: str
    learned: int
    words: int

    @classmethod
    def of(cls, text: str, id: str | None = None, learned: int | None = None) -> LearnedText:
        """Return a text that is learned now, with a new id unless one is given."""
        return cls(id or token_hex(8), text, now() if learned is None else learned, count_words(text))

    @property
    def characters(self) -> int:
        """The characters that it counts as."""
        return max(SHORTEST, len(self.text))

    def replaced(self, text: str) -> LearnedText:
        """Return it with another text."""
        if text == self.text:
            return self
        return LearnedText(self.id, text, self.learned, count_words(text))

    def without_word(self, word: str) -> tuple[LearnedText, int]:
        """Return it without a word, and the number of places where the word was."""
        text, places = without_word(self.text, word)
        return self.replaced(text), places


@dataclass(slots=True)
class Content:
    """A whole profile. taught: word → occurrences that it counts for. forgotten: digests."""

    created: int
    changed: int
    texts: list[LearnedText] = field(default_factory=list)
    taught: dict[str, int] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)

    def without_forgotten(self) -> Content:
        """Return it with texts that have no forgotten word."""
        texts = [text.replaced(without_forgotten(text.text, self.forgotten)) for text in self.texts]
        return Content(self.created, self.changed, texts, self.taught, self.forgotten)

    @property
    def characters(self) -> int:
        return sum(text.characters for text in self.texts) + SHORTEST * (len(self.taught) + len(self.forgotten))


@dataclass(slots=True)
class Summary:
    """The size and the dates of a profile; dates are seconds since 1970."""

    created: int
    changed: int
    texts: int
    words: int
    characters: int
    taught: int
    forgotten: int


class Reading(NamedTuple):
    """A profile as a worker reads it: all of it, or only the texts that are newer than a state."""

    state: State
    content: Content
    whole: bool


class ProfileStore(ABC):
    """A store. All methods raise StoreFault.

    A missing profile is made by the methods that say so. `touch` ignores it, and the other methods raise NoProfile.
    """

    def __init__(self, limits: Limits):
        self.limits = limits

    @abstractmethod
    def check(self) -> None:
        """Prepare the store at the start of the service. Raises StoreFault if it cannot be used."""

    @abstractmethod
    def learn(self, key: ProfileKey, text: LearnedText) -> LearnedText:
        """Save a text without its forgotten words, and return it. Makes the profile.

        The same text with the same id is saved once. Raises TextTaken if another text has this id.
        """

    @abstractmethod
    def undo(self, key: ProfileKey, id: str) -> None:
        """Remove a text. Raises NoText."""

    @abstractmethod
    def teach(self, key: ProfileKey, word: str) -> None:
        """Save a word that is suggested from now on. The word is no longer forgotten. Makes the profile."""

    @abstractmethod
    def forget(self, key: ProfileKey, word: str) -> int:
        """Cut a word out of all texts, keep its digest, and return the number of places where it was."""

    @abstractmethod
    def load(self, key: ProfileKey, content: Content) -> Summary:
        """Replace the whole profile. Makes the profile."""

    @abstractmethod
    def delete(self, key: ProfileKey) -> None:
        """Remove all of a profile."""

    @abstractmethod
    def summary(self, key: ProfileKey) -> Summary:
        """Return the size and the dates of a profile."""

    @abstractmethod
    def content(self, key: ProfileKey) -> Content:
        """Return all of a profile."""

    @abstractmethod
    def touch(self, key: ProfileKey) -> None:
        """Note that a profile was used now."""

    @abstractmethod
    def read(self, key: ProfileKey, known: State | None) -> Reading | None:
        """Return what is new since a state; None if nothing is."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def check_size(self, characters: int) -> None:
        """Raise ProfileFull if a profile may not have so many characters."""
        if characters > self.limits.characters:
            raise ProfileFull(f"the profile would have {characters:,} characters, and it may have "
                              f"{self.limits.characters:,}; take texts back, or delete it")

    def check_count(self, profiles: int) -> None:
        """Raise StoreFull if there may not be so many profiles."""
        if profiles > self.limits.profiles:
            raise StoreFull(f"this service keeps {self.limits.profiles:,} profiles, and it has that many")


def owner_of(key: ProfileKey) -> str:
    """Return the beginning that the keys of all profiles of one owner have in common."""
    return key.partition("/")[0] + "/"


def stored(kind: TypeAdapter[Value], value: Any) -> Value:
    """Return a value from the store, or JSON in bytes. Raises StoreDamaged if it is not of this kind."""
    try:
        if isinstance(value, bytes):
            return kind.validate_json(value, strict=True)
        return kind.validate_python(value, strict=True)
    except ValidationError:
        raise StoreDamaged from None


def now() -> int:
    """Return the seconds since 1970."""
    return int(time.time())


def spellings_of(word: str, words: Iterable[str]) -> list[str]:
    """Return those of the words that are this word in any letter case."""
    return [other for other in words if key(other) == key(word)]


def count_words(text: str) -> int:
    return sum(1 for _ in words_in(text))
