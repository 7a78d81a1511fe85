"""Text for evaluation: all of a split, or an excerpt of about a given number of tokens."""
from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import datasets
import torch
from torch import Tensor

from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.corpora import Corpus

PIECES = 10  # fewest texts of an excerpt, if the split has so many
STREAMED = 1000  # the first documents of a streamed split; only these are read


class Text(NamedTuple):
    """A text as tokens.

    ids      (n + 1,) int64: `<eos>`, then the tokens
    unknown  place among the tokens, from 0 → spelling, for words outside the vocabulary
    """

    ids: Tensor
    unknown: dict[int, str]

    @property
    def length(self) -> int:
        return len(self.ids) - 1


def excerpts(corpus: Corpus, split: str, vocabulary: Vocabulary, tokens: int | None = None) -> list[Text]:
    """The documents of a split.

    tokens: approximate number of tokens of an excerpt; None: all documents. An excerpt has random documents, always the
    same ones, and at most the first tokens / PIECES of each (more if the split has fewer documents than PIECES).
    A pretokenized split is one text. Its excerpt is its first tokens.
    """
    if vocabulary.pretokenized:
        ids = vocabulary.encode("\n".join(corpus.documents(split)) + "\n")
        return [_text(ids[:tokens], {})]
    data = corpus.split(split)
    if not isinstance(data, datasets.Dataset):
        data = datasets.Dataset.from_dict({"text": list(islice(corpus.documents(split), STREAMED))})
    longest = None
    if tokens is not None:
        data, longest = data.shuffle(seed=0), -(-tokens // max(1, min(PIECES, len(data))))
    texts: list[Text] = []
    count = 0
    for row in data:
        if tokens is not None and count >= tokens:
            break
        ids, unknown = vocabulary.encode_with_unknown(row["text"] + "\n")
        texts.append(_text(ids[:longest], unknown))
        count += texts[-1].length
    return texts


def _text(ids: list[int], unknown: dict[int, str]) -> Text:
    return Text(torch.tensor([EOS_ID, *ids]), {place: word for place, word in unknown.items() if place < len(ids)})


def halves(text: Text) -> tuple[Text, Text] | None:
    """Cut a text after the paragraph in its middle. None if that is the last paragraph."""
    ends = torch.nonzero(text.ids[1:] == EOS_ID).flatten()
    cut = next((int(end) + 1 for end in ends if end + 1 >= text.length / 2), text.length)
    if cut == text.length:
        return None
    first = _text(text.ids[1 : cut + 1].tolist(), text.unknown)
    return first, _text(text.ids[cut + 1 :].tolist(),
                        {place - cut: word for place, word in text.unknown.items() if place >= cut})
