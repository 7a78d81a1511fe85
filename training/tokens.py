"""A split as token ids on disk, and the windows that training reads from it.

A split's documents are encoded once into one file of 16- or 32-bit ids, memory-mapped: every paragraph ends with
`<eos>`, and one more `<eos>` stands before the first. The file's name is a hash of the text's fingerprint and of the
vocabulary, so that changed text or another vocabulary is never mistaken for it.
"""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np
import torch

from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.corpora import Corpus

COUNTED = 2**30  # characters that the vocabulary is made from, of the beginning of a text
CHARACTERS = 2**20  # of documents that are encoded at once
SCANNED = 2**22  # tokens that are looked through at once


def cache_folder() -> Path:
    """Where prepared text is kept: $NEXTWORD_CACHE, else ~/.cache/nextword."""
    return Path(os.environ.get("NEXTWORD_CACHE") or Path.home() / ".cache" / "nextword")


def build_vocabulary(corpus: Corpus, size: int, minimum_count: int, pretokenized: bool) -> Vocabulary:
    """The vocabulary of the corpus's training text; counted once, then read from the cache."""
    key = [corpus.fingerprint("train"), size, minimum_count, pretokenized]
    path = cache_folder() / f"vocabulary-{_digest(key)}.json"
    if not path.exists():
        texts = (line for document in _beginning(corpus.documents("train")) for line in document.split("\n"))
        vocabulary = Vocabulary.build(texts, size, minimum_count, pretokenized)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, vocabulary.to_json().encode())
    return Vocabulary.from_file(path)


def encode_split(corpus: Corpus, split: str, vocabulary: Vocabulary) -> np.ndarray:
    """The split's token ids, (tokens,) memory-mapped: `<eos>`, then each paragraph followed by `<eos>`."""
    kind = np.uint16 if len(vocabulary) <= 2**16 else np.uint32
    path = cache_folder() / f"tokens-{_digest([corpus.fingerprint(split), vocabulary.to_json()])}.{kind.__name__}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(np.array([EOS_ID], kind).tobytes())
            for batch in _batches(corpus.documents(split)):
                for ids in vocabulary.encode_many([document + "\n" for document in batch]):
                    file.write(np.array(ids, kind).tobytes())
    return np.memmap(path, kind, mode="r")


def digest(vocabulary: Vocabulary, *splits: np.ndarray) -> str:
    """Another one whenever a word or its place in these texts changes; where the text lies does not matter."""
    state = hashlib.sha256(vocabulary.to_json().encode())
    for tokens in splits:
        state.update(b"|")
        state.update(tokens)
    return state.hexdigest()[:24]


def _beginning(documents: Iterable[str]) -> Iterator[str]:
    """Documents of some `COUNTED` characters: the words of a text without bounds have none either."""
    left = COUNTED
    for document in documents:
        yield document
        left -= len(document)
        if left <= 0:
            return


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of some `CHARACTERS`: enough for all threads of the tokenizer, whatever a document's length."""
    batch, length = [], 0
    for document in documents:
        batch.append(document)
        length += len(document)
        if length >= CHARACTERS:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` when all of it is on disk: never a half-written one is there,
    whenever the process or the machine stops. What such a stop left is taken away by the next who writes the same."""
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        for other in path.parent.glob(f"{escape(path.name)}.*.part"):
            if other != part:
                other.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # another process has just written the same
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write the whole file or leave what was there."""
    with replacing(path) as file:
        file.write(content)


def _digest(key) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def log_frequencies(tokens: np.ndarray, size: int) -> torch.Tensor:
    """The logarithm of each word's share of the text, (size,) float32, as if each occurred once more: the output biases
    with which a network that knows nothing yet predicts every word as often as it occurs."""
    counts = np.ones(size)
    for begin in range(0, len(tokens), SCANNED):
        counts += np.bincount(tokens[begin : begin + SCANNED], minlength=size)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


class Windows:
    """Truncated back-propagation's view of a text: `batch` reading heads, each moving `bptt` tokens a step.

    The text is cut into `batch` long rows, and head i reads row i from left to right, so that the state a head carries
    from one window to the next is that of the words just before. With the alphabet, batch 3 and bptt 4:

        row 0: a b c d | e f g h        step 0 reads a..d, i..l, q..t and predicts b..e, j..m, r..u
        row 1: i j k l | m n o p        step 1 reads e..h, …
        row 2: q r s t | u v w x        (y and z are left over)

    With `shuffle_block` > 0 the text is first cut, at ends of paragraphs, into blocks of at least that many tokens,
    and they are read in an order drawn from `seed` and the epoch; so joined corpora are mixed. 0 keeps the text's order.

    `share` leaves out all heads but some: those of one process among several.
    """

    def __init__(self, tokens: np.ndarray, batch: int, bptt: int, shuffle_block: int = 0, seed: int = 0,
                 share: slice = slice(None)):
        self.tokens, self.batch, self.bptt, self.seed = tokens, batch, bptt, seed
        self.heads = range(batch)[share]
        self.row = (len(tokens) - 1) // batch
        if self.row < 1:
            raise ValueError(f"the text has {len(tokens) - 1:,} tokens, too few for batch_size {batch}")
        self.steps = -(-self.row // bptt)
        self.starts = self._block_starts(shuffle_block) if shuffle_block else np.zeros(1, np.int64)
        self.lengths = np.diff(np.append(self.starts, len(tokens)))

    def _block_starts(self, size: int) -> np.ndarray:
        """A block begins after the first end of a paragraph at or behind each multiple of `size`."""
        starts, last = [np.zeros(1, np.int64)], 0
        for begin in range(0, len(self.tokens), SCANNED):
            ends = begin + 1 + np.flatnonzero(self.tokens[begin : begin + SCANNED] == EOS_ID)
            starts.append(ends[np.diff(ends // size, prepend=last) > 0])
            last = int(ends[-1]) // size if len(ends) else last
        starts = np.concatenate(starts)
        return starts[starts < len(self.tokens)]

    def epoch(self, number: int, first_step: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The windows of an epoch from a step on: inputs and targets, each (time, heads) int64."""
        order = np.arange(len(self.starts))
        if len(order) > 1:
            np.random.default_rng([self.seed, number]).shuffle(order)
        starts, ends = self.starts[order], np.cumsum(self.lengths[order])
        for step in range(first_step, self.steps):
            left = step * self.bptt
            right = min(left + self.bptt, self.row) + 1
            rows = [self._read(starts, ends, i * self.row + left, i * self.row + right) for i in self.heads]
            window = torch.from_numpy(np.stack(rows, axis=1))
            yield window[:-1], window[1:]

    def _read(self, starts: np.ndarray, ends: np.ndarray, left: int, right: int) -> np.ndarray:
        """Tokens left..right of the blocks laid end to end."""
        block, pieces = int(np.searchsorted(ends, left, side="right")), []
        while left < right:
            offset = left - (ends[block - 1] if block else 0)
            take = min(right, ends[block]) - left
            pieces.append(self.tokens[starts[block] + offset : starts[block] + offset + take])
            left, block = left + take, block + 1
        return np.concatenate(pieces).astype(np.int64)
