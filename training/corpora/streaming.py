"""Corpora too large to hold: the text is read as it comes from the hub, and only its token ids are kept.

A streamed split is cleaned while it is read. Its fingerprint tells apart its data files (on the hub by the revision, in
a folder by the files' times), its clean-up and its part of them, so that its token ids are made once. Where there are
several data files, several processes read and clean them.

Missing validation and test text is taken from the training text by a hash of each document: of 100 documents one is
validation text and another one test text, and the first 1,000 of each are read. So the length of the text need not be
known, and a document that occurs twice is never in two splits.
"""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import datasets

from nextword.training.corpora import tables

_HELD_OUT = {"validation": 0, "test": 1}  # of _SHARES
_SHARES, _DOCUMENTS = 100, 1000


class Streamed:
    """Data sets that are read one after another as they come.

    It has the methods of `datasets.Dataset` that a corpus needs. `key` tells the text apart from all other text.
    """

    def __init__(self, parts: list[datasets.IterableDataset | datasets.Dataset], *key: object):
        self.parts = parts
        self._fingerprint = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]

    @property
    def features(self) -> datasets.Features:
        part = self.parts[0]
        return part.features or part._resolve_features().features

    def map(self, function: Callable, fn_kwargs: dict[str, Any], batch_size: int = 256,
            remove_columns: list[str] | None = None, **_for_files: object) -> Streamed:
        """Apply a function of batches while the text is read."""
        parts = [part.map(function, batched=True, batch_size=batch_size, fn_kwargs=fn_kwargs,
                          remove_columns=remove_columns) for part in self.parts]
        return Streamed(parts, self._fingerprint, function.__name__, fn_kwargs)

    def iter(self, batch_size: int) -> Iterator[dict[str, list[str]]]:
        for part in self.parts:
            processes = min(cores(), part.num_shards) if isinstance(part, datasets.IterableDataset) else 1
            if processes < 2:
                yield from part.iter(batch_size)
            else:
                from torch.utils.data import DataLoader  # late: torch takes seconds to import

                yield from DataLoader(part.batch(batch_size), batch_size=None, num_workers=processes)


def splits(builder: datasets.DatasetBuilder) -> dict[str, Streamed]:
    """Each split of a folder in the hub's layout, or of a data set on the hub."""
    return {split: Streamed([data], tables.versions(builder), split)
            for split, data in builder.as_streaming_dataset().items()}


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def concatenated(texts: list[Streamed | datasets.Dataset]) -> Streamed | datasets.Dataset:
    """One text after another: streamed if one of them is."""
    if not any(isinstance(text, Streamed) for text in texts):
        return datasets.concatenate_datasets(texts)
    parts = [part for text in texts for part in (text.parts if isinstance(text, Streamed) else [text])]
    return Streamed(parts, [text._fingerprint for text in texts])


def hold_out(train: Streamed, missing: list[str]) -> dict[str, Streamed]:
    """The missing splits, and "train" without them."""
    chosen = {split: [_HELD_OUT[split]] for split in missing}
    chosen["train"] = sorted({*range(_SHARES)} - {_HELD_OUT[split] for split in missing})
    parts = {split: [part.filter(_in_share, fn_kwargs={"shares": shares}) for part in train.parts]
             for split, shares in chosen.items()}
    for split in missing:
        parts[split] = [part.take(_DOCUMENTS) for part in parts[split][:1]]
    return {split: Streamed(parts[split], train._fingerprint, split, missing) for split in chosen}


def _in_share(row: dict[str, str], shares: list[int]) -> bool:
    return int.from_bytes(hashlib.blake2b(row["text"].encode(), digest_size=8).digest(), "big") % _SHARES in shares
