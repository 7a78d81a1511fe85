"""Text to measure on: all of a split, or about so many tokens from all over it."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.corpora import Corpus

PIECES = 10  # texts at least that a smaller excerpt is made of, where there are so many


class Text(NamedTuple):
    """ids (n + 1,) int64: `<eos>`, then the tokens; unknown: by their place among those, from 0, the spelling of words
    outside the vocabulary."""

    ids: Tensor
    unknown: dict[int, str]

    @property
    def length(self) -> int:
        return len(self.ids) - 1


def excerpts(corpus: Corpus, split: str, vocabulary: Vocabulary, tokens: int | None = None) -> list[Text]:
    """The documents of a split. With `tokens`, documents drawn at random (always the same ones) until there are so many
    tokens, and of each the first tokens / PIECES at most (more where there are fewer documents than PIECES).

    A pretokenized split is one text, of which the first tokens are taken.
    """
    data = corpus.split(split)
    if vocabulary.pretokenized:
        ids = vocabulary.encode("\n".join(data["text"]) + "\n")
        return [_text(ids[:tokens], {})]
    longest = None
    if tokens is not None:
        data, longest = data.shuffle(seed=0), -(-tokens // min(PIECES, len(data)))
    texts, count = [], 0
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
    """A text cut at the end of the paragraph that its middle is in; None where nothing follows that."""
    ends = torch.nonzero(text.ids[1:] == EOS_ID).flatten()
    cut = next((int(end) + 1 for end in ends if end + 1 >= text.length / 2), text.length)
    if cut == text.length:
        return None
    first = _text(text.ids[1 : cut + 1].tolist(), text.unknown)
    return first, _text(text.ids[cut + 1 :].tolist(),
                        {place - cut: word for place, word in text.unknown.items() if place >= cut})
