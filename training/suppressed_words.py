"""Words that the training text has more of than the language: one novel's people, the stock names of one source, half-words."""
from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from nextword.lm.vocabulary import EOS_ID, Vocabulary

DOCUMENTS = 1000  # in less text than this many documents, such names are what it is about
FEW, MANY = 5, 100  # documents
LARGEST = 0.5  # share of a name's occurrences that one document has
OFTEN, TIMES = 4e-4, 20  # share of a source's tokens that a stock name is; so many times as much as of any other source's
SMALL = 0.01  # of a name's occurrences those spelled small
CUT = re.compile(r"(\w+)(?=[*`´]+\w)|(?<=\w)[*`´]+(\w+)")  # f*ck, don`t: what is before the mark, what is behind it
PIECE = 1 / 3  # of a half-word's occurrences those that are cut off so


def held_back(sources: Sequence[Iterable[str]], vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Of the documents of each source, a document that is read several times counting once:

    names_of_few_documents  words spelled with a capital that fewer than FEW documents have, or fewer than MANY of which
                            one has half of all occurrences. None where there are fewer than DOCUMENTS documents
    stock_names             names that are OFTEN in one source, of at least DOCUMENTS documents, and rare in all others
    half_words              words of which at least PIECE of all occurrences are CUT off from others by a mark
    """
    have, most = np.zeros((2, len(vocabulary)), np.int64)
    counts = np.zeros((len(sources), len(vocabulary)), np.int64)
    read: set[bytes] = set()
    pieces: Counter[str] = Counter()
    sizes = []
    for documents, count in zip(sources, counts):
        before = len(read)
        new = (text for text in documents if (digest := hashlib.blake2b(text.encode(), digest_size=12).digest()) not in read
               and not read.add(digest))
        while batch := list(islice(new, 256)):
            pieces.update(piece for text in batch for cut in CUT.findall(text) for piece in cut)
            for ids in vocabulary.encode_many(batch):
                words, times = np.unique(np.array(ids, np.int64), return_counts=True)
                have[words] += 1
                count[words] += times
                most[words] = np.maximum(most[words], times)
        sizes.append(len(read) - before)
    total = counts.sum(0)
    few = (have < FEW) | (have < MANY) & (most >= LARGEST * total)
    if len(read) < DOCUMENTS:
        few[:] = False
    small = {word: times for word, times in zip(vocabulary.words, total) if word[0].islower()}
    stock = _stock(counts, np.array(sizes)) & [small.get(word.casefold(), 0) <= SMALL * times
                                              for word, times in zip(vocabulary.words, total)]
    capital = [i for i, fine in enumerate(vocabulary.is_word()) if fine and i > EOS_ID and vocabulary.words[i][0].isupper()]
    names = {name: [vocabulary.words[i] for i in capital if chosen[i]]
             for name, chosen in (("names_of_few_documents", few), ("stock_names", stock))}
    return {**names, "half_words": [word for word, times in zip(vocabulary.words, total) if pieces[word] > PIECE * times]}


def _stock(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Of occurrences by source (sources, V), and the sources' numbers of documents: what is a stock word (V,)."""
    rates = counts / counts.sum(1, keepdims=True).clip(min=1)
    stock = np.zeros(counts.shape[1], bool)
    for number in np.flatnonzero(sizes >= DOCUMENTS) if len(counts) > 1 else ():
        others = np.delete(rates, number, axis=0).max(0)
        stock |= (rates[number] >= OFTEN) & (rates[number] >= TIMES * others)
    return stock
