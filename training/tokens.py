"""The vocabulary of a corpus, and its splits as token ids on disk.

The documents of a split are encoded once into one memory-mapped file of 16- or 32-bit ids. Every paragraph ends with
`<eos>`, and one more `<eos>` is before the first paragraph. The file's name is a hash of the text's fingerprint and of
the vocabulary. So changed text or another vocabulary has another file.
"""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.atomic_files import replacing, write_atomically
from nextword.training.corpora import Corpus

COUNTED = 2**30  # characters of a text, from its beginning, that the vocabulary is made from
PRIVATE = 0o700  # mode of a folder that holds text: what somebody has written is not for other users
CHARACTERS = 2**20  # of documents that are encoded at once
SCANNED = 2**22  # tokens that are counted at once


def cache_folder() -> Path:
    """The folder of prepared text: $NEXTWORD_CACHE, else ~/.cache/nextword."""
    return Path(os.environ.get("NEXTWORD_CACHE") or Path.home() / ".cache" / "nextword")


def build_vocabulary(corpus: Corpus, size: int, minimum_count: int, pretokenized: bool) -> Vocabulary:
    """The vocabulary of the corpus's training text. It is made once, and then read from the cache."""
    key = [corpus.fingerprint("train"), size, minimum_count, pretokenized]
    path = cache_folder() / f"vocabulary-{_digest(key)}.json"
    if not path.exists():
        texts = (line for document in _beginning(corpus.documents("train")) for line in document.split("\n"))
        vocabulary = Vocabulary.build(texts, size, minimum_count, pretokenized)
        path.parent.mkdir(PRIVATE, parents=True, exist_ok=True)
        write_atomically(path, vocabulary.to_json().encode())
    return Vocabulary.from_file(path)


def encode_split(corpus: Corpus, split: str, vocabulary: Vocabulary) -> np.ndarray:
    """The split's token ids, (tokens,) memory-mapped: `<eos>`, then each paragraph followed by `<eos>`."""
    kind = np.uint16 if len(vocabulary) <= 2**16 else np.uint32
    path = cache_folder() / f"tokens-{_digest([corpus.fingerprint(split), vocabulary.to_json()])}.{kind.__name__}"
    if not path.exists():
        path.parent.mkdir(PRIVATE, parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(np.array([EOS_ID], kind).tobytes())
            for batch in _batches(corpus.documents(split)):
                for ids in vocabulary.encode_many([document + "\n" for document in batch]):
                    file.write(np.array(ids, kind).tobytes())
    return np.memmap(path, kind, mode="r")


def digest(vocabulary: Vocabulary, *splits: np.ndarray) -> str:
    """A checksum of these texts: of their words in their order."""
    state = hashlib.sha256(vocabulary.to_json().encode())
    for tokens in splits:
        state.update(b"|")
        state.update(np.ascontiguousarray(tokens).data)
    return state.hexdigest()[:24]


def _beginning(documents: Iterable[str]) -> Iterator[str]:
    """The first documents, with about `COUNTED` characters in all, so that an endless text is not counted for ever."""
    remaining = COUNTED
    for document in documents:
        yield document
        remaining -= len(document)
        if remaining <= 0:
            return


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Lists of documents with about `CHARACTERS` characters each, enough for all threads of the tokenizer."""
    batch, length = [], 0
    for document in documents:
        batch.append(document)
        length += len(document)
        if length >= CHARACTERS:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _digest(key: list) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def word_counts(tokens: np.ndarray, size: int) -> torch.Tensor:
    """(size,) float64: the occurrences of each id in a text, plus 1, so that no word has the share 0."""
    counts = np.ones(size)
    for begin in range(0, len(tokens), SCANNED):
        counts += np.bincount(tokens[begin : begin + SCANNED], minlength=size)
    return torch.from_numpy(counts)
