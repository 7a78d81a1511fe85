"""The choice of documents, or of pieces of them, for a share of a training text.

Documents of more than `PIECE` characters are cut at paragraph ends into pieces of about that length; a shorter document
is one piece. In a document with pieces 0, 1, 2, … a share of 0.3 includes each piece i for which
`floor((i + 1) * 0.3 + u) > floor(i * 0.3 + u)`: three pieces in ten, evenly spread. u is a number from 0 to 1 from a
hash of the document, so that the share includes three in ten of the short documents too. (This is systematic sampling
with a random start.) The chosen pieces of a document stay one document.

The choice depends only on the document and the share. So it is the same in every run.
"""
from __future__ import annotations

import hashlib
import math
from typing import TypeVar

import datasets
import pyarrow.compute as pc

from nextword.training.corpora.held_out import cut_text
from nextword.training.corpora.streaming import Streamed, concatenated

PIECE = 4096  # characters
_VERSION = 1  # increase it when the choice changes

Text = TypeVar("Text", datasets.Dataset, Streamed)


def multiplied(train: Text, times: float) -> Text:
    """A training text with one column, `text`, `times` times: the whole text several times, and then a share of it."""
    whole, share = divmod(times, 1)
    return concatenated([train] * int(whole) + ([_choose(train, share)] if share else []))


def _choose(train: Text, share: float) -> Text:
    """About `share` (between 0 and 1) of the characters of a training text."""
    piece = PIECE
    if isinstance(train, datasets.Dataset):  # a small text has small pieces, so that there are enough of them
        length = sum(pc.sum(pc.utf8_length(batch["text"])).as_py() for batch in train.with_format("arrow").iter(1000))
        piece = max(1, min(PIECE, length // 400))
    return train.map(_chosen, batched=True, batch_size=256, writer_batch_size=256,
                     fn_kwargs={"share": share, "piece": piece, "version": _VERSION})


def _chosen(batch: dict[str, list[str]], share: float, piece: int, version: int) -> dict[str, list[str]]:
    parts = (_part(text, share, piece) for text in batch["text"])
    return {"text": [part for part in parts if part]}


def _part(text: str, share: float, piece: int) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "big") / 2**64
    pieces = cut_text(text, "\n", piece)
    return "\n".join(text for i, text in enumerate(pieces)
                     if math.floor((i + 1) * share + start) > math.floor(i * share + start))
