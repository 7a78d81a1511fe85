"""What a model knows after reading a text, and the continuous cache over it.

The continuous cache (Grave, Joulin & Usunier 2017, equations 2 and 5) makes words likelier that were read lately in a
situation like the present one. With h_i the output vector from which word i+1 was to be predicted:

    p_cache(w | h_t) ∝ sum_{i < t} 1{w = w_{i+1}} exp(θ h_t · h_i)
    p(w)             = (1 - λ) p_model(w) + λ p_cache(w)

It needs no training, and it can offer words that the vocabulary lacks, in the spelling in which they were read.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

HALF = 100  # words over which the cache has half of its share


@dataclass(frozen=True)
class CacheSettings:
    """The cache's numbers.

    theta   θ, the sharpness of the similarity
    weight  λ, the share of a cache over very much text; over n words it is λ n / (n + HALF), since a few words say little
    size    how many words are remembered
    """

    theta: float = 0.3
    weight: float = 0.1
    size: int = 2000


class Context(NamedTuple):
    """A text that was read. It is not changed by being read on from, so it can be kept and used again.

    state    (S,) the network's state after the last token
    output   (D,) the output vector there
    keys     (n, D) for each remembered token, the output vector from which it was to be predicted
    tokens   (n,) int64 the remembered tokens
    unknown  place among the remembered tokens → spelling, for those that the vocabulary lacks
    length   tokens read in all
    """

    state: Tensor
    output: Tensor
    keys: Tensor
    tokens: Tensor
    unknown: dict[int, str]
    length: int

    @property
    def bytes(self) -> int:
        """Memory that it takes, about."""
        tensors = (self.state, self.output, self.keys, self.tokens)
        return sum(t.numel() * t.element_size() for t in tensors) + 200 * (len(self.unknown) + 4)

    def read_on(self, tokens: Tensor, spellings: dict[int, str], outputs: Tensor, state: Tensor, size: int) -> Context:
        """This context after more tokens (m,), whose output vectors are (m, D); the last `size` are remembered."""
        if not len(tokens):
            return self
        keys = torch.cat([self.keys, self.output[None], outputs[:-1]])
        everything = torch.cat([self.tokens, tokens])
        drop, shift = max(0, len(everything) - size), len(self.tokens)
        unknown = {**self.unknown, **{place + shift: word for place, word in spellings.items()}}
        unknown = {place - drop: word for place, word in unknown.items() if place >= drop}
        return Context(state, outputs[-1].clone(), keys[drop:], everything[drop:], unknown, self.length + len(tokens))


class Distribution:
    """Over the next token; made of its logarithms or of its probabilities, the other is found where it is asked for.

    log_probs, probabilities   (V,)
    unknown                    the probability of words that the vocabulary lacks, by spelling
    seen                       (n,) int64 the remembered tokens before it
    """

    def __init__(self, log_probs: Tensor | None, unknown: dict[str, float], seen: Tensor | None = None,
                 probabilities: Tensor | None = None):
        self._log_probs, self._probabilities = log_probs, probabilities
        self.unknown, self.seen = unknown, seen

    @property
    def log_probs(self) -> Tensor:
        if self._log_probs is None:
            self._log_probs = self._probabilities.log()
        return self._log_probs

    @property
    def probabilities(self) -> Tensor:
        if self._probabilities is None:
            self._probabilities = self._log_probs.exp()
        return self._probabilities

    def of(self, tokens: list[int]) -> list[float]:
        """The probabilities of some tokens, to the last digit those that their logarithms give."""
        if self._log_probs is None:
            return self._probabilities[tokens].log().exp().tolist()
        return self._log_probs[tokens].exp().tolist()


def mixed(log_probs: Tensor, context: Context, history: Context | None, settings: CacheSettings, unknown_id: int
          ) -> Distribution:
    """The model's distribution (V,) after `context`, mixed with the cache over it and over an earlier text."""
    remembered = [part for part in (history, context) if part is not None and len(part.tokens)]
    if not remembered:
        return Distribution(log_probs, {})
    tokens = torch.cat([part.tokens for part in remembered])
    if settings.weight == 0:
        return Distribution(log_probs, {}, tokens)
    weight = settings.weight * len(tokens) / (len(tokens) + HALF)
    keys = torch.cat([part.keys for part in remembered]) if len(remembered) > 1 else remembered[0].keys
    likeness = keys @ context.output
    shares = weight * torch.softmax(settings.theta * likeness, dim=0)
    probabilities = log_probs.exp().mul_(1 - weight).index_add_(0, tokens, shares)
    spellings: list[str] = []
    places: list[int] = []
    start = 0
    for part in remembered:
        spellings += part.unknown.values()
        places += [start + place for place in part.unknown]
        start += len(part.tokens)
    unknown: dict[str, float] = {}
    if places:
        beyond = shares[places]
        probabilities[unknown_id] = (probabilities[unknown_id] - beyond.sum()).clamp(min=1e-30)
        for word, share in zip(spellings, beyond.tolist()):
            unknown[word] = unknown.get(word, 0.0) + share
    return Distribution(None, unknown, tokens, probabilities)
