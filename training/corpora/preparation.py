"""From the unchanged text of a corpus to a `Corpus`: one clean column, all splits, and no document in two splits."""
from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import datasets

from nextword.training.corpora import cleaning, held_out, streaming
from nextword.training.corpora.corpus import SPLITS, Corpus, CorpusError, Origin, Source
from nextword.training.corpora.local_files import SPLIT_NAMES
from nextword.training.corpora.registry import Definition

Text: TypeAlias = Any  # datasets.Dataset or streaming.Streamed; clean text has one column, `text`

_STRINGS = (datasets.Value("string"), datasets.Value("large_string"))


def prepare(name: str, definition: Definition, raw: Mapping[str, Text], pretokenized: bool, prefix: str = "") -> Corpus:
    """Clean the text of each split, and cut the missing splits out of the training text. Raises CorpusError.

    raw: split → unchanged text, with one text column. prefix: added to the front of the corpus's name.
    """
    clean_up = None if pretokenized else definition.clean_up
    texts: dict[str, Text] = {}
    documents: Counter[str] = Counter()  # number of documents of the training text, by origin
    for raw_split, data in raw.items():
        split = raw_split if raw_split in definition.train else SPLIT_NAMES.get(raw_split.lower())
        if split:
            texts[split], counts = _clean_text(name, raw_split, data, clean_up, isinstance(definition.licence, Mapping))
            if split in definition.train:
                documents.update(counts)
    if not texts:
        raise CorpusError(f"corpus {name!r} has the splits {', '.join(raw)}; accepted: train, validation, test")
    left_out: dict[str, int] = {}
    if definition.train[0] in texts:
        texts = _with_all_splits(name, texts, definition.train)
        if definition.drop_repeated and not pretokenized and isinstance(texts["train"], datasets.Dataset):
            left_out = _drop_repeated(texts)
    splits = {split: texts[split] for split in SPLITS if split in texts}
    counted = {split: len(data) for split, data in splits.items() if isinstance(data, datasets.Dataset)}
    source = Source(name, _licence(definition), clean_up, counted, left_out, _origins(definition, documents))
    return Corpus(prefix + name, (source,), splits)


def _licence(definition: Definition) -> str | None:
    licence = definition.licence
    return ", ".join(dict.fromkeys(licence.values())) if isinstance(licence, Mapping) else licence


def _origins(definition: Definition, documents: Counter[str]) -> tuple[Origin, ...]:
    licences = definition.licence if isinstance(definition.licence, Mapping) else {}
    return tuple(Origin(name, licences.get(name), count) for name, count in sorted(documents.items()))


def _with_all_splits(name: str, texts: dict[str, Text], train: tuple[str, ...]) -> dict[str, Text]:
    main, *others = (texts[split] for split in train if split in texts)
    measured = {split: texts[split] for split in SPLITS[1:] if split in texts}
    missing = [split for split in SPLITS[1:] if split not in measured]
    cut = streaming.hold_out if isinstance(main, streaming.Streamed) else held_out.cut
    try:
        splits = cut(main, missing) if missing else {"train": main}
    except CorpusError as error:
        raise CorpusError(f"corpus {name!r}: {error}") from None
    return {**splits, **measured, "train": streaming.concatenated([splits["train"], *others])}


def _clean_text(
    name: str, split: str, data: Text, clean_up: str | None, by_origin: bool
) -> tuple[Text, dict[str, int]]:
    """Clean text with one column, `text`. With `by_origin`, also the number of documents for each `source`."""
    by_origin = by_origin and isinstance(data, datasets.Dataset) and "source" in data.features
    options: dict[str, Any] = {
        "column": _text_column(name, data.features), "clean_up": clean_up, "by_origin": by_origin,
        "version": cleaning.VERSION}  # all of these are part of the fingerprint
    cleaned = data.map(_clean, batched=True, batch_size=256, writer_batch_size=256, fn_kwargs=options,
                       remove_columns=list(data.features), desc=f"Cleaning {name}")
    if isinstance(cleaned, datasets.Dataset) and not len(cleaned):
        raise CorpusError(f"corpus {name!r} has no text in {split} ({len(data)} rows, all empty)")
    if not by_origin:
        return cleaned, {}
    counts = {row["values"]: row["counts"] for row in cleaned.data.column("source").value_counts().to_pylist()}
    return cleaned.select_columns("text"), counts


def _text_column(name: str, features: datasets.Features) -> str:
    """The name of the column `text`, or of the only column of strings."""
    strings = [column for column, kind in features.items() if kind in _STRINGS]
    if len(features) == 1 and strings and re.search(r"\w[;\t|]\w", strings[0]):
        raise CorpusError(f"corpus {name!r} has the single column {strings[0]!r}; accepted are csv files with commas "
                          "between columns, and tsv files with tabs")
    if "text" in strings or len(strings) == 1:
        return "text" if "text" in strings else strings[0]
    columns = ", ".join(f"{column} ({getattr(kind, 'dtype', 'list').removeprefix('large_')})"
                        for column, kind in features.items())
    raise CorpusError(f"corpus {name!r} has the columns {columns}; accepted: 'text' (string), or one string column. "
                      "Rename the column with the text to 'text'")


def _clean(batch: dict[str, list], column: str, clean_up: str | None, by_origin: bool, version: int) -> dict[str, list]:
    if clean_up is None:
        texts, kept = [(text or "").removesuffix("\n") for text in batch[column]], list(range(len(batch[column])))
    else:
        texts = [cleaning.CLEANERS[clean_up](text) if text else "" for text in batch[column]]
        kept = [number for number, text in enumerate(texts) if text]
    columns = {"text": texts, **({"source": batch["source"]} if by_origin else {})}
    return {key: [values[number] for number in kept] for key, values in columns.items()}


def _drop_repeated(texts: dict[str, Text]) -> dict[str, int]:
    """Remove from validation and test, in place, the documents that an earlier split has. Returns their number by
    split.
    """
    earlier = set(_hashes(texts["train"]))
    left_out = {}
    for split in SPLITS[1:]:
        digests = list(_hashes(texts[split]))
        keep = [number for number, digest in enumerate(digests) if digest not in earlier]
        left_out[split] = len(digests) - len(keep)
        texts[split] = texts[split].select(keep)
        earlier.update(digests)
    return left_out


def _hashes(data: datasets.Dataset) -> Iterator[bytes]:
    for batch in data.iter(1000):
        for text in batch["text"]:
            yield hashlib.blake2b(text.encode(), digest_size=12).digest()
