"""Words that are too frequent in the training text: names of one novel, stock names of one source, half-words."""
from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from nextword.lm.vocabulary import EOS_ID, Vocabulary

DOCUMENTS = 1000  # a text with fewer documents is about its names, so none is suppressed
FEW, MANY = 5, 100  # documents
LARGEST = 0.5  # share of a name's occurrences in one document
OFTEN = 4e-4  # a stock name has at least this share of a source's tokens,
TIMES = 20  # and this many times its share of any other source's tokens
SMALL = 0.01  # largest share of a stock name's occurrences in lower case
CUT = re.compile(r"(\w+)(?=[*`´]+\w)|(?<=\w)[*`´]+(\w+)")  # f*ck, don`t: the part before the mark, the part after it
PIECE = 1 / 3  # a half-word is cut off in more than this share of its occurrences
USED = 2  # a word with fewer occurrences stays in the lists of the start
LISTS = ("names_of_few_documents", "stock_names", "half_words")


def suppressed_words(sources: Sequence[Iterable[str]], vocabulary: Vocabulary,
                     start: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[str]]:
    """Lists of words, from the documents of each source. A repeated document counts once.

    names_of_few_documents  capitalised words that fewer than FEW documents have; or that fewer than MANY documents
                            have, one of them with half of all occurrences. None if the text has fewer than DOCUMENTS
                            documents
    stock_names             names that are frequent in one source of at least DOCUMENTS documents, and rare in all
                            others (see OFTEN and TIMES)
    half_words              words that a mark cuts off from other words (see CUT and PIECE)

    start: the lists of the model that the training began with. A word with fewer than USED occurrences in the text
    stays in its lists. So do all stock names, unless the text has several sources and one has DOCUMENTS documents.
    """
    have, most = np.zeros((2, len(vocabulary)), np.int64)
    counts = np.zeros((len(sources), len(vocabulary)), np.int64)
    digests: set[bytes] = set()
    pieces: Counter[str] = Counter()
    sizes = []
    for documents, count in zip(sources, counts):
        before = len(digests)
        new = _new_documents(documents, digests)
        while batch := list(islice(new, 256)):
            pieces.update(piece for text in batch for cut in CUT.findall(text) for piece in cut)
            for ids in vocabulary.encode_many(batch):
                words, times = np.unique(np.array(ids, np.int64), return_counts=True)
                have[words] += 1
                count[words] += times
                most[words] = np.maximum(most[words], times)
        sizes.append(len(digests) - before)
    total = counts.sum(0)
    few = (have < FEW) | (have < MANY) & (most >= LARGEST * total)
    if len(digests) < DOCUMENTS:
        few[:] = False
    small = {word: times for word, times in zip(vocabulary.words, total) if word[0].islower()}
    stock = _stock(counts, np.array(sizes)) & [small.get(word.casefold(), 0) <= SMALL * times
                                              for word, times in zip(vocabulary.words, total)]
    capital = [i > EOS_ID and word[0].isupper() for i, word in enumerate(vocabulary.words)]
    name = np.array(vocabulary.is_word()) & capital
    half = np.array([pieces[word] > PIECE * times for word, times in zip(vocabulary.words, total)])
    lists = dict(zip(LISTS, (few & name, stock & name, half)))
    if start is not None:
        can_tell_stock = len(sources) > 1 and max(sizes) >= DOCUMENTS
        for key, chosen in lists.items():
            in_start = np.isin(np.array(vocabulary.words), list(start.get(key, ())))
            kept = (total < USED) if key != "stock_names" or can_tell_stock else np.ones(len(total), bool)
            lists[key] = np.where(kept, in_start, chosen)
    return {key: [vocabulary.words[i] for i in np.flatnonzero(chosen)] for key, chosen in lists.items()}


def _new_documents(documents: Iterable[str], digests: set[bytes]) -> Iterator[str]:
    """The documents whose digests are not in the set yet. Their digests are added to it."""
    for text in documents:
        digest = hashlib.blake2b(text.encode(), digest_size=12).digest()
        if digest not in digests:
            digests.add(digest)
            yield text


def _stock(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The stock words (V,) bool, from occurrences by source (sources, V) and the number of each source's documents."""
    rates = counts / counts.sum(1, keepdims=True).clip(min=1)
    stock = np.zeros(counts.shape[1], bool)
    for number in np.flatnonzero(sizes >= DOCUMENTS) if len(counts) > 1 else ():
        others = np.delete(rates, number, axis=0).max(0)
        stock |= (rates[number] >= OFTEN) & (rates[number] >= TIMES * others)
    return stock
