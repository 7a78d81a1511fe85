"""Corpora that are too large for this machine: the text comes from the hub and is not saved, only its token ids.

A streamed split is cleaned while it is read. Its token ids are made once. They are found again by the split's
fingerprint, which depends on its data files (on the hub on the revision, in a folder on the files' times), on its
clean-up, and on the choice of documents. If there are several data files, several processes read and clean them.

Missing validation and test text is chosen from the training text by a hash of each document: about one in 100 documents
is validation text, and one in 100 is test text. The first 1,000 of each are read. So the length of the text need not be
known, and a repeated document is never in two splits.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import datasets

from nextword.training.corpora import tables
from nextword.training.machine import cores

_HELD_OUT = {"validation": 0, "test": 1}  # the share of each split, a number below _SHARES
_SHARES, _DOCUMENTS = 100, 1000


class Streamed:
    """Streamed data sets, one after another. It has the methods of `datasets.Dataset` that a corpus needs.

    key: values that identify the text.
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
                from torch.utils.data import DataLoader  # here, because torch takes seconds to import

                yield from DataLoader(part.batch(batch_size), batch_size=None, num_workers=processes)


def splits(builder: datasets.DatasetBuilder) -> dict[str, Streamed]:
    """The splits of a folder in the hub's layout, or of a data set on the hub."""
    return {split: Streamed([data], tables.versions(builder), split)
            for split, data in builder.as_streaming_dataset().items()}


def concatenated(texts: list[Streamed | datasets.Dataset]) -> Streamed | datasets.Dataset:
    """Join texts. The result is streamed if one of them is."""
    if not any(isinstance(text, Streamed) for text in texts):
        return datasets.concatenate_datasets(texts)
    parts = [part for text in texts for part in (text.parts if isinstance(text, Streamed) else [text])]
    return Streamed(parts, [text._fingerprint for text in texts])


def hold_out(train: Streamed, missing: list[str]) -> dict[str, Streamed]:
    """Return the missing splits, and "train" without their documents."""
    chosen = {split: [_HELD_OUT[split]] for split in missing}
    chosen["train"] = sorted({*range(_SHARES)} - {_HELD_OUT[split] for split in missing})
    parts = {split: [part.filter(_in_share, fn_kwargs={"shares": shares}) for part in train.parts]
             for split, shares in chosen.items()}
    for split in missing:
        parts[split] = [part.take(_DOCUMENTS) for part in parts[split][:1]]
    return {split: Streamed(parts[split], train._fingerprint, split, missing) for split in chosen}


def _in_share(row: dict[str, str], shares: list[int]) -> bool:
    return int.from_bytes(hashlib.blake2b(row["text"].encode(), digest_size=8).digest(), "big") % _SHARES in shares
