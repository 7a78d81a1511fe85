"""Names that hardly more than one document of the training text has: one novel's people."""
from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import islice

import numpy as np

from lm.vocabulary import EOS_ID, Vocabulary

DOCUMENTS = 1000  # in less text than this many documents, such names are what it is about
FEW, MANY = 5, 100  # documents
LARGEST = 0.5  # share of a name's occurrences that one document has


def names_of_few_documents(documents: Iterable[str], vocabulary: Vocabulary) -> list[str]:
    """The names, words never spelled small, that fewer than FEW documents have, or fewer than MANY of which one has half
    of all occurrences. A document that is read several times counts once. None where there are fewer than DOCUMENTS documents.
    """
    have, most, total = np.zeros((3, len(vocabulary)), np.int64)
    read: set[bytes] = set()
    documents = (text for text in documents if (digest := hashlib.blake2b(text.encode(), digest_size=12).digest())
                 not in read and not read.add(digest))
    while batch := list(islice(documents, 256)):
        for ids in vocabulary.encode_many(batch):
            words, counts = np.unique(np.array(ids, np.int64), return_counts=True)
            have[words] += 1
            total[words] += counts
            most[words] = np.maximum(most[words], counts)
    if len(read) < DOCUMENTS:
        return []
    small = {word for word in vocabulary.words if word[0].islower()}
    return [word for i, (word, fine) in enumerate(zip(vocabulary.words, vocabulary.is_word()))
            if i > EOS_ID and fine and word[0].isupper() and word.casefold() not in small
            and (have[i] < FEW or have[i] < MANY and most[i] >= LARGEST * total[i])]
