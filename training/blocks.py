"""Validation and test text for a corpus that has none, cut out of its training text.

Documents longer than 1/400 of the text are first cut, at paragraph ends, into pieces of about that length. Then all
documents, in their order, are taken as 400 blocks of equally many (fewer in a small text, a multiple of 20), and of
every 20 blocks the 10th is validation text and the 20th is test text, where that split is missing. So one long file,
thousands of reviews and a short text are all measured on 5 % of what they are, taken from all over them.
"""
from __future__ import annotations

from collections.abc import Iterator

import datasets
import numpy as np

from training.corpus import CorpusError

_BLOCKS = 400
_PLACES = {"validation": 9, "test": 19}  # of 20


def cut(train: datasets.Dataset, missing: list[str]) -> dict[str, datasets.Dataset]:
    """The missing splits, and "train" without them."""
    longest = max(1, sum(len(text) for batch in train.iter(1000) for text in batch["text"]) // _BLOCKS)
    train = train.map(_pieces, batched=True, batch_size=100, fn_kwargs={"longest": longest})
    blocks = min(_BLOCKS, len(train) // 20 * 20)
    if not blocks:
        raise CorpusError(
            f"{len(train)} paragraphs are too few to cut {' and '.join(missing)} text from: "
            "20 are needed, or files of their own (train.txt, valid.txt, test.txt)"
        )
    place = np.arange(len(train)) * blocks // len(train) % 20
    chosen = {split: place == _PLACES[split] for split in missing}
    chosen["train"] = ~np.any(list(chosen.values()), axis=0)
    return {split: train.select(np.flatnonzero(where)) for split, where in chosen.items()}


def _pieces(batch: dict[str, list[str]], longest: int) -> dict[str, list[str]]:
    return {"text": [piece for text in batch["text"] for piece in _split_up(text, longest)]}


def _split_up(text: str, longest: int) -> Iterator[str]:
    start = 0
    while len(text) - start > longest and (end := text.find("\n", start + longest)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]
