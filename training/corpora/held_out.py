"""Validation and test text for a corpus that has none, cut out of its training text.

First, documents with more than 1/40 of the text are cut, at paragraph ends, into pieces of about 1/400 of it. (A text
with fewer than 20 paragraphs is cut between words instead, into pieces of at least 200 characters.) Then all documents,
in their order, are divided into 400 blocks of equal size (a small text has fewer blocks, a multiple of 20). Of every 20
blocks, the 10th is validation text and the 20th is test text, if that split is missing. So one long file, thousands of
reviews and a short text are all measured on 5 % of their text, in evenly spread pieces.
"""
from __future__ import annotations

from collections.abc import Iterator

import datasets
import numpy as np
import pyarrow.compute as pc

from nextword.training.corpora.corpus import CorpusError

_BLOCKS = 400
_PLACES = {"validation": 9, "test": 19}  # the block of every 20


def cut(train: datasets.Dataset, missing: list[str]) -> dict[str, datasets.Dataset]:
    """Return the missing splits, and "train" without their text."""
    length = sum(pc.sum(pc.utf8_length(batch["text"])).as_py() for batch in train.with_format("arrow").iter(1000))
    pieces = _cut_up(train, "\n", length // 40, length // _BLOCKS)
    if len(pieces) < 20:
        pieces = _cut_up(train, " ", 0, max(200, length // _BLOCKS))
    blocks = min(_BLOCKS, len(pieces) // 20 * 20)
    if not blocks:
        raise CorpusError(
            f"the text is too short to cut {' and '.join(missing)} text from: it needs 20 paragraphs or 4,000 "
            "characters, or files of their own (train.txt, valid.txt, test.txt)"
        )
    place = np.arange(len(pieces)) * blocks // len(pieces) % 20
    chosen = {split: place == _PLACES[split] for split in missing}
    chosen["train"] = ~np.any(list(chosen.values()), axis=0)
    return {split: pieces.select(np.flatnonzero(where)) for split, where in chosen.items()}


def _cut_up(data: datasets.Dataset, border: str, longest: int, piece: int) -> datasets.Dataset:
    """Cut documents of more than `longest` characters at the first border after each `piece` characters."""
    kwargs = {"border": border, "longest": longest, "piece": max(1, piece)}
    return data.map(_pieces, batched=True, batch_size=100, writer_batch_size=100, fn_kwargs=kwargs)


def _pieces(batch: dict[str, list[str]], border: str, longest: int, piece: int) -> dict[str, list[str]]:
    return {"text": [part for text in batch["text"]
                     for part in (cut_text(text, border, piece) if len(text) > longest else [text])]}


def cut_text(text: str, border: str, piece: int) -> Iterator[str]:
    """Cut a text at the first border after each `piece` characters. The borders are omitted."""
    start = 0
    while len(text) - start > piece and (end := text.find(border, start + piece)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]
