"""The file of `nextword predict --profile`: the texts and decisions of one person as JSON.

It has the form of the service's export, so the service can load it, and this command can load an export.
"""
from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nextword.lm.forgetting import concerns, digest, without_forgotten, without_word
from nextword.lm.profile import TAUGHT, Profile
from nextword.lm.regular_file import read_regular_file
from nextword.lm.words import words_in

LARGEST = 100_000_000  # bytes


class SavedText(BaseModel):
    """A text that was learned. learned: seconds since 1970."""

    id: str
    text: str
    learned: int


class SavedWord(BaseModel):
    """A word, and how often it occurs or counts as occurring."""

    word: str
    count: int = Field(ge=1, le=1_000_000)


class SavedProfile(BaseModel):
    """The content of the file. words: all words of the texts, for other programs; they are not read."""

    model_config = ConfigDict(strict=True)

    format: Literal["nextword-profile"]
    version: Literal[1]
    created: int | None = None
    texts: list[SavedText] = []
    taught: list[SavedWord] = []
    forgotten: list[str] = []
    words: list[SavedWord] = []

    @classmethod
    def read(cls, path: Path) -> SavedProfile:
        """Read a file; a missing one is an empty profile. Raises ValueError or OSError."""
        try:
            content = read_regular_file(path, LARGEST)
        except FileNotFoundError:
            return cls(format="nextword-profile", version=1, created=int(time.time()))
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"])) or "the file"
            raise ValueError(f"{path} is no profile: {place}: {fault['msg']}") from None

    def write(self, path: Path) -> None:
        """Write the whole file, for its owner alone, or leave the old one. Raises OSError."""
        counts = Counter(match[0] for text in self.texts for match in words_in(text.text))
        self.words = [SavedWord(word=word, count=min(count, 1_000_000)) for word, count in counts.most_common()]
        part = path.with_name(f"{path.name}.{token_hex(8)}.part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self.model_dump_json(exclude_none=True).encode())
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def profile(self) -> Profile:
        """The profile for a model."""
        profile = Profile()
        for text in self.texts:
            profile.learn(text.text)
        for word in self.taught:
            with suppress(ValueError):  # it is no single word
                profile.teach(word.word, word.count)
        profile.forgotten = set(self.forgotten)
        return profile

    def learn(self, text: str) -> None:
        """Learn a text without its forgotten words."""
        text = without_forgotten(text, self.forgotten)
        self.texts.append(SavedText(id=token_hex(8), text=text, learned=int(time.time())))

    def teach(self, word: str) -> None:
        """Suggest a word from now on. Raises ValueError if it is not one word."""
        Profile().teach(word)
        self.forgotten = [other for other in self.forgotten if other != digest(word)]
        self.taught = [other for other in self.taught if digest(other.word) != digest(word)]
        self.taught.append(SavedWord(word=word, count=TAUGHT))

    def forget(self, word: str) -> None:
        """Cut a word out of all texts, and keep its digest. Raises ValueError if it is not one word."""
        Profile().forget(word)
        for text in self.texts:
            text.text, _ = without_word(text.text, word)
        self.taught = [other for other in self.taught if not concerns(other.word, word)]
        self.forgotten = sorted({*self.forgotten, digest(word)})
