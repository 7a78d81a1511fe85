"""A loaded corpus: named splits of clean text, and where they came from."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import datasets

SPLITS = ("train", "validation", "test")


class CorpusError(ValueError):
    """A corpus cannot be loaded or used. The message is one line: what is wrong and what is accepted."""


class HubUnreachable(CorpusError):
    """The hub does not answer, and the corpus is not in the cache either."""


@dataclass(frozen=True)
class Origin:
    """A part of a corpus that has a licence of its own."""

    name: str  # the value of the column `source`
    licence: str | None  # None: unknown
    documents: int  # of the training text


@dataclass(frozen=True)
class Source:
    """A corpus as a bundle records it: where the text came from and how it was cleaned."""

    name: str
    licence: str | None  # None: unknown; of a corpus with several origins all their licences
    clean_up: str | None  # a function of nextword.training.corpora.cleaning; None: the text was taken as it is
    documents: dict[str, int]  # by split; empty for a streamed corpus
    left_out: dict[str, int] = field(default_factory=dict)  # documents that an earlier split has too
    origins: tuple[Origin, ...] = ()
    times: float = 1  # the training text was read so many times an epoch


@dataclass(frozen=True)
class Corpus:
    """Text to train and to measure on.

    Each split is a memory-mapped `datasets.Dataset` with one column, `text`: a document a row, its paragraphs
    separated by one newline. Of pretokenized text, a row is a sentence. Each split of a streamed corpus is a
    `nextword.training.corpora.streaming.Streamed`, which is not kept anywhere.
    """

    name: str
    sources: tuple[Source, ...]
    splits: dict[str, datasets.Dataset]  # some of "train", "validation", "test"
    parts: tuple[Corpus, ...] = ()  # the corpora that were joined; empty for a single corpus

    def split(self, name: str) -> datasets.Dataset:
        """Raises CorpusError where there is no such split."""
        if name not in self.splits:
            raise CorpusError(f"corpus {self.name!r} has no split {name!r}; it has: {', '.join(self.splits)}")
        return self.splits[name]

    def fingerprint(self, split: str) -> str:
        """A string that changes whenever the text, its clean-up or the choice of documents does. Reads no text."""
        return self.split(split)._fingerprint

    def documents(self, split: str) -> Iterator[str]:
        """The split's documents in their order."""
        for batch in self.split(split).iter(batch_size=100):
            yield from batch["text"]
