"""Corpora by name: what they are, where they come from and how they are cleaned.

`load_corpus` gives each split as a memory-mapped `datasets.Dataset` with one
column, `text`: a document a row, its paragraphs separated by one newline.

**Missing validation or test text** is cut from the training text. Documents
longer than 1/400 of that text are first cut at paragraph ends into pieces of
about that length; then all of it is taken as 400 blocks of consecutive
documents (fewer in a small text: a multiple of 20), and of every 20 blocks the
10th is validation and the 20th is test text, where that split is missing.
"""
from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Iterator

import datasets
import numpy as np

from training import cleaning

SPLITS = ("train", "validation", "test")
_VERSION = hashlib.sha256(inspect.getsource(cleaning).encode()).hexdigest()[:16]


class CorpusError(ValueError):
    """A corpus cannot be had or used; the message is one line and says what is accepted."""


@dataclass(frozen=True)
class Definition:
    """What is known about a corpus."""

    hub: str | None = None  # hub id
    config: str | None = None
    clean_up: str = "plain"  # a function of `training.cleaning`
    licence: str | None = None
    column: str = "text"
    train: tuple[str, ...] = ("train",)  # the splits to train on; missing splits are cut from the first
    drop_repeated: bool = False  # measured documents that also occur in training text are left out


CORPORA = {
    "wikitext-2": Definition("Salesforce/wikitext", "wikitext-2-raw-v1", "plain", "CC BY-SA 3.0"),
    "wikitext-103": Definition("Salesforce/wikitext", "wikitext-103-raw-v1", "plain", "CC BY-SA 3.0"),
    "imdb": Definition("stanfordnlp/imdb", "plain_text", "reviews", train=("train", "unsupervised"),
                       drop_repeated=True),
    "tinystories": Definition("roneneldan/TinyStories", None, "lines", "CDLA-Sharing-1.0"),
    "english-novels": Definition(clean_up="books", licence="public domain"),
    "tatoeba-english": Definition(clean_up="lines", licence="CC BY 2.0 FR"),
}


@dataclass(frozen=True)
class Source:
    """Where text came from: as recorded in a bundle."""

    name: str
    licence: str | None
    clean_up: str | None  # None: the text was taken as it is
    documents: dict[str, int]  # by split
    left_out: dict[str, int] = field(default_factory=dict)  # repeated documents, by split


@dataclass(frozen=True)
class Corpus:
    """Text to train and measure on."""

    name: str
    sources: tuple[Source, ...]
    splits: dict[str, datasets.Dataset]

    def split(self, name: str) -> datasets.Dataset:
        """Raises CorpusError where there is no such split."""
        if name not in self.splits:
            raise CorpusError(f"corpus {self.name!r} has no split {name!r}; it has: {', '.join(self.splits)}")
        return self.splits[name]

    def fingerprint(self, split: str) -> str:
        """Changes whenever the text, its clean-up or its choice changes."""
        return self.split(split)._fingerprint

    def documents(self, split: str) -> Iterator[str]:
        for batch in self.split(split).iter(batch_size=100):
            yield from batch["text"]


def load_corpus(spec: str, *, pretokenized: bool = False) -> Corpus:
    """The corpus that `spec` names, or several joined by commas.

    With `pretokenized` the text is left exactly as it is, one sentence a row.
    Raises CorpusError.
    """
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise CorpusError("no corpus is named")
    with _progress_only_on_terminals():
        return _joined(spec, [_load_one(name, pretokenized) for name in names])


def _joined(name: str, parts: list[Corpus]) -> Corpus:
    if len(parts) == 1:
        return parts[0]
    common = [s for s in SPLITS if all(s in part.splits for part in parts)]
    if not common:
        raise CorpusError(f"the corpora {name} have no split in common: "
                          + "; ".join(f"{part.name} has {', '.join(part.splits)}" for part in parts))
    splits = {s: datasets.concatenate_datasets([part.splits[s] for part in parts]) for s in common}
    return Corpus(name, tuple(source for part in parts for source in part.sources), splits)


def _load_one(spec: str, pretokenized: bool) -> Corpus:
    path = Path(spec)
    if not path.is_dir():
        raise CorpusError(f"no corpus {spec!r}; accepted: a directory")
    name = path.resolve().name
    definition = CORPORA.get(name, Definition())
    raw = datasets.load_dataset(str(path), definition.config)
    return _prepared(name, definition, raw, pretokenized)


def _prepared(name: str, definition: Definition, raw: dict[str, datasets.Dataset], pretokenized: bool) -> Corpus:
    clean_up = None if pretokenized else definition.clean_up
    texts = {split: _text(name, definition, data, clean_up) for split, data in raw.items()
             if split in SPLITS or split in definition.train}
    main, *others = [texts[split] for split in definition.train if split in texts] or [None]
    splits = {} if main is None else {"train": main}
    splits |= {s: texts[s] for s in ("validation", "test") if s in texts}
    if main is not None:
        splits |= _cut(main, [s for s in ("validation", "test") if s not in splits])
        splits["train"] = datasets.concatenate_datasets([splits["train"], *others])
    left_out = {}
    if definition.drop_repeated and main is not None and not pretokenized:
        left_out = _drop_repeated(splits)
    splits = {s: splits[s] for s in SPLITS if s in splits}
    counts = {s: len(data) for s, data in splits.items()}
    return Corpus(name, (Source(name, definition.licence, clean_up, counts, left_out),), splits)


def _text(name: str, definition: Definition, data: datasets.Dataset, clean_up: str | None) -> datasets.Dataset:
    if definition.column not in data.column_names:
        raise CorpusError(f"corpus {name!r} has no column {definition.column!r}; it has: "
                          + ", ".join(data.column_names))
    data = data.select_columns(definition.column)
    if definition.column != "text":
        data = data.rename_column(definition.column, "text")
    if clean_up is None:
        return data
    return data.map(_clean, batched=True, batch_size=100, desc=f"Cleaning {name}",
                    fn_kwargs={"clean_up": clean_up, "version": _VERSION})


def _clean(batch: dict[str, list[str]], clean_up: str, version: str) -> dict[str, list[str]]:
    clean = cleaning.CLEANERS[clean_up]
    return {"text": [text for text in map(clean, batch["text"]) if text]}


def _cut(data: datasets.Dataset, wanted: list[str]) -> dict[str, datasets.Dataset]:
    """The rule in the module's docstring."""
    if not wanted:
        return {"train": data}
    longest = max(1, sum(len(text) for batch in data.iter(1000) for text in batch["text"]) // 400)
    data = data.map(_pieces, batched=True, batch_size=100, fn_kwargs={"longest": longest})
    units = len(data)
    blocks = min(400, units // 20 * 20)
    if not blocks:
        raise CorpusError(f"{units} paragraphs are too few to cut {' and '.join(wanted)} text from")
    place = np.arange(units, dtype=np.int64) * blocks // units % 20
    chosen = {s: place == {"validation": 9, "test": 19}[s] for s in wanted}
    masks = chosen | {"train": ~np.logical_or.reduce(list(chosen.values()))}
    return {s: data.select(np.flatnonzero(mask)) for s, mask in masks.items()}


def _pieces(batch: dict[str, list[str]], longest: int) -> dict[str, list[str]]:
    return {"text": [piece for text in batch["text"] for piece in _split_up(text, longest)]}


def _split_up(text: str, longest: int) -> Iterator[str]:
    start = 0
    while len(text) - start > longest:
        end = text.find("\n", start + longest)
        if end < 0:
            break
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _drop_repeated(splits: dict[str, datasets.Dataset]) -> dict[str, int]:
    """Leaves out, in place, measured documents that also occur in `train`; gives their number by split."""
    trained = set(_hashes(splits["train"]))
    left_out = {}
    for split in ("validation", "test"):
        keep = [i for i, digest in enumerate(_hashes(splits[split])) if digest not in trained]
        left_out[split] = len(splits[split]) - len(keep)
        splits[split] = splits[split].select(keep)
    return left_out


def _hashes(data: datasets.Dataset) -> Iterable[bytes]:
    for batch in data.iter(1000):
        for text in batch["text"]:
            yield hashlib.blake2b(text.encode(), digest_size=12).digest()


@contextlib.contextmanager
def _progress_only_on_terminals() -> Iterator[None]:
    if sys.stderr.isatty() or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
