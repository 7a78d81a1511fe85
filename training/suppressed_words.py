"""Words over-represented in the training text: the people of one novel, the stock names of one source, half-words."""
from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from nextword.lm.vocabulary import EOS_ID, Vocabulary

DOCUMENTS = 1000  # a text of fewer documents is about the names that it has
FEW, MANY = 5, 100  # documents
LARGEST = 0.5  # share of a name's occurrences that one document has
OFTEN = 4e-4  # share of a source's tokens that a stock name has
TIMES = 20  # times the share that it has of any other source's tokens
SMALL = 0.01  # share of a stock name's occurrences that may begin with a small letter
CUT = re.compile(r"(\w+)(?=[*`´]+\w)|(?<=\w)[*`´]+(\w+)")  # f*ck, don`t: the part before the mark, the part behind it
PIECE = 1 / 3  # share of a half-word's occurrences that are cut off so
USED = 2  # occurrences from which on the text, and not the start of the training, says what a word is
LISTS = ("names_of_few_documents", "stock_names", "half_words")


def suppressed_words(sources: Sequence[Iterable[str]], vocabulary: Vocabulary,
                     start: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[str]]:
    """Lists of words, from the documents of each source; a document that is read several times counts once.

    names_of_few_documents  words spelled with a capital that fewer than FEW documents have, or fewer than MANY of which
                            one has half of all occurrences. None where there are fewer than DOCUMENTS documents
    stock_names             names that are OFTEN in one source, of at least DOCUMENTS documents, and rare in all others
    half_words              words of which at least PIECE of all occurrences are CUT off from others by a mark

    start: the lists of the model that the training began with. A word that the text has less than USED times stays in
    its lists. So do stock names, unless the text has several sources of which one has DOCUMENTS documents.
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
        stock_is_told = len(sources) > 1 and max(sizes) >= DOCUMENTS
        for key, chosen in lists.items():
            in_start = np.isin(np.array(vocabulary.words), list(start.get(key, ())))
            kept = (total < USED) if key != "stock_names" or stock_is_told else np.ones(len(total), bool)
            lists[key] = np.where(kept, in_start, chosen)
    return {key: [vocabulary.words[i] for i in np.flatnonzero(chosen)] for key, chosen in lists.items()}


def _new_documents(documents: Iterable[str], digests: set[bytes]) -> Iterator[str]:
    """The documents whose digests are not in the set, which grows by them."""
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
