"""A loaded corpus: splits of clean text, and their sources."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import datasets

SPLITS = ("train", "validation", "test")


class CorpusError(ValueError):
    """A corpus cannot be loaded or used. The message is one line, with the fault and the accepted values."""


class HubUnreachable(CorpusError):
    """The hub does not answer, and the cache does not have the corpus."""


@dataclass(frozen=True)
class Origin:
    """A part of a corpus with its own licence."""

    name: str  # the value of the column `source`
    licence: str | None  # None: unknown
    documents: int  # number of documents in the training text


@dataclass(frozen=True)
class Source:
    """A bundle's record of a corpus: its name, its licence, and its clean-up."""

    name: str
    licence: str | None  # None: unknown; for a corpus with several origins, all of their licences
    clean_up: str | None  # a function of nextword.training.corpora.cleaning; None: the text was not changed
    documents: dict[str, int]  # number of documents by split; empty for a streamed corpus
    left_out: dict[str, int] = field(default_factory=dict)  # number of omitted documents, which an earlier split has
    origins: tuple[Origin, ...] = ()
    times: float = 1  # number of times that an epoch reads the training text


@dataclass(frozen=True)
class Corpus:
    """Text for training and evaluation.

    Each split is a memory-mapped `datasets.Dataset` with one column, `text`. Each row is a document; one newline
    separates its paragraphs. A row of pretokenized text is a sentence. Each split of a streamed corpus is a
    `nextword.training.corpora.streaming.Streamed`; its text is not saved.
    """

    name: str
    sources: tuple[Source, ...]
    splits: dict[str, datasets.Dataset]  # some of "train", "validation", "test"
    parts: tuple[Corpus, ...] = ()  # the corpora that were joined; empty for a single corpus

    def split(self, name: str) -> datasets.Dataset:
        """Raises CorpusError if there is no such split."""
        if name not in self.splits:
            raise CorpusError(f"corpus {self.name!r} has no split {name!r}; it has: {', '.join(self.splits)}")
        return self.splits[name]

    def fingerprint(self, split: str) -> str:
        """A string that changes with the text, its clean-up, or the choice of documents. It is found without reading
        the text.
        """
        return self.split(split)._fingerprint

    def documents(self, split: str) -> Iterator[str]:
        """The documents of a split, in order."""
        for batch in self.split(split).iter(batch_size=100):
            yield from batch["text"]
