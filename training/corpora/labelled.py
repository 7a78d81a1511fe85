"""Texts with one of two labels, in splits for training, validation and test. No text is in two splits."""
from __future__ import annotations

import random
import re
import sys
from typing import NamedTuple

import datasets

from nextword.training.corpora.cleaning import reviews as clean
from nextword.training.corpora.corpus import SPLITS, CorpusError
from nextword.training.corpora.loading import load_rows

CUT = {"test": 0.2, "validation": 0.1}  # the share of the training rows that a missing split gets


class Labelled(NamedTuple):
    """The texts of a split, and for each text True if it has the second label."""

    texts: list[str]
    labels: list[bool]


def load_labelled(spec: str) -> tuple[dict[str, Labelled], list[str]]:
    """The splits train, validation and test of a data set, and the names of its two labels.

    A missing split is made of random training rows, always the same ones. Validation and test lack the texts that an
    earlier or an unlabelled split has. Raises CorpusError if a text or a label is missing, or if there are not two
    labels.
    """
    raw = load_rows(spec)
    if "train" not in raw:
        raise CorpusError(f"{spec} has the splits {', '.join(raw)}; a split 'train' is needed")
    rows = {split: _rows(spec, split, raw[split]) for split in SPLITS if split in raw}
    names = sorted({label for split in rows.values() for _, label in split})
    if len(names) != 2:
        raise CorpusError(f"{spec} has {len(names)} different labels ({', '.join(names[:5])}); two are needed")
    for split, share in CUT.items():
        if split not in rows:
            shuffled = random.Random(0).sample(rows["train"], len(rows["train"]))
            size = int(share * len(shuffled))
            rows["train"], rows[split] = shuffled[size:], shuffled[:size]
    seen = {clean(text) for split in raw.keys() - rows.keys() for text in raw[split]["text"] if text}
    splits = {}
    for split in SPLITS:
        kept = [row for row in rows[split] if split == "train" or row[0] not in seen]
        seen.update(text for text, _ in rows[split])
        if len(kept) < len(rows[split]):
            left_out = len(rows[split]) - len(kept)
            print(f"{split}: {left_out:,} texts left out that other splits have too", file=sys.stderr)
        if {label for _, label in kept} != set(names):
            raise CorpusError(f"{spec}: the {len(kept):,} texts of {split} do not have both labels")
        splits[split] = Labelled([text for text, _ in kept], [label == names[1] for _, label in kept])
    return splits, names


def _rows(spec: str, split: str, data: datasets.Dataset) -> list[tuple[str, str]]:
    """The text and the label of each row."""
    if not {"text", "label"} <= set(data.column_names):
        raise CorpusError(f"{spec} has the columns {', '.join(data.column_names)}; 'text' and 'label' are needed")
    names = getattr(data.features["label"], "names", None)
    if not all(isinstance(text or "", str) for text in data["text"]):
        raise CorpusError(f"{spec}: the column 'text' of {split} holds numbers or lists; text is needed")
    texts, labels = [clean(text or "") for text in data["text"]], list(data["label"])
    for field, places in (("text", [place for place, text in enumerate(texts) if not re.search(r"\w", text)]),
                          ("label", [place for place, label in enumerate(labels) if label in (None, -1, "")])):
        if places:
            raise CorpusError(f"{spec}: {len(places):,} of {len(texts):,} rows of {split} have no {field} (the first "
                              f"is row {places[0] + 1}); give them one or take them out")
    return [(text, names[label] if names else str(label)) for text, label in zip(texts, labels)]
