"""Corpora too large to hold: their text is read as it comes from the hub and never kept, only its token ids are.

A streamed split is what `datasets` streams, cleaned on the way, with a fingerprint that tells its data files (on the hub
the revision, in a folder the files' times), its clean-up and its part apart, so that token ids made once are found again.
Where there are several data files, several processes read and clean them.

Validation and test text that is missing is taken from the training text by what a document says: one in 100, by a hash,
is validation text and another one test text, of which the first 1,000 are read. So it takes no knowledge of the length,
and a document that occurs twice is never on both sides.
"""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator

import datasets

from nextword.training.corpora import shares

_HELD_OUT = {"validation": 0, "test": 1}  # of _SHARES
_SHARES, _DOCUMENTS = 100, 1000


class Streamed:
    """Some data sets with a column `text` that are read one after another; stands where a `datasets.Dataset` stands."""

    def __init__(self, parts: list[datasets.IterableDataset | datasets.Dataset], *key: object):
        self.parts = parts
        self._fingerprint = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]

    def iter(self, batch_size: int) -> Iterator[dict[str, list[str]]]:
        for part in self.parts:
            processes = min(cores(), part.num_shards) if isinstance(part, datasets.IterableDataset) else 1
            if processes < 2:
                yield from part.iter(batch_size)
            else:
                from torch.utils.data import DataLoader  # late: torch takes seconds to import

                yield from DataLoader(part.batch(batch_size), batch_size=None, num_workers=processes)

    def chosen(self, share: float) -> Streamed:
        """The part of the text that `shares.choose` takes."""
        return Streamed([shares.choose(part, share) for part in self.parts], self._fingerprint, share)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def joined(texts: list[Streamed | datasets.Dataset]) -> Streamed:
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
