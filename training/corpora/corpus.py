"""What a corpus is, once it is loaded: named splits of clean text, and where they came from."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import datasets

SPLITS = ("train", "validation", "test")


class CorpusError(ValueError):
    """A corpus cannot be had or used: one line that says what was found and what is accepted."""


class HubUnreachable(CorpusError):
    """The hub does not answer, and the corpus is not in the cache either."""


@dataclass(frozen=True)
class Source:
    """Where text came from and what was done to it, as it is recorded in a bundle."""

    name: str
    licence: str | None  # None: not known
    clean_up: str | None  # a function of nextword.training.corpora.cleaning; None: the text was taken as it is
    documents: dict[str, int]  # by split
    left_out: dict[str, int] = field(default_factory=dict)  # documents that an earlier split has too


@dataclass(frozen=True)
class Corpus:
    """Text to train and to measure on.

    Each split is a memory-mapped `datasets.Dataset` with one column, `text`: a document a row, its paragraphs
    separated by one newline. Of pretokenized text, a row is a sentence. (Of a streamed corpus each is a
    `nextword.training.corpora.streaming.Streamed`, which is not kept anywhere.)
    """

    name: str
    sources: tuple[Source, ...]
    splits: dict[str, datasets.Dataset]  # of "train", "validation", "test" those that there are
    parts: tuple[Corpus, ...] = ()  # the corpora that it joins, where it does

    def split(self, name: str) -> datasets.Dataset:
        """Raises CorpusError where there is no such split."""
        if name not in self.splits:
            raise CorpusError(f"corpus {self.name!r} has no split {name!r}; it has: {', '.join(self.splits)}")
        return self.splits[name]

    def fingerprint(self, split: str) -> str:
        """Another one whenever the text, its clean-up, or the documents chosen from it change; takes no reading."""
        return self.split(split)._fingerprint

    def documents(self, split: str) -> Iterator[str]:
        """The split's documents in their order."""
        for batch in self.split(split).iter(batch_size=100):
            yield from batch["text"]
