"""Affixes: words that begin or end alike share a part of their vectors, so that rare words learn from frequent ones.

The vector of a word is the sum of its own and of its affixes' vectors (for language models Botha & Blunsom 2014; for
word vectors alone Bojanowski et al. 2017, "fastText"):

    W[w] = E[w] + 1/√n sum_{a in affixes of w} F[a]        n: the number of affixes of w

Affixes are the first 3, 4 and 5 letters, the last 1 to 4 letters, and the word without capitals. Only those of two
words or more count. F begins at 0. The embedding and the output layer are one matrix, so both have the sums. A finished
run has W alone: its model is as large and as fast as one without affixes.
"""
from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID, Vocabulary

BEGINNINGS = (3, 4, 5)  # letters
ENDS = (1, 2, 3, 4)


def share(network: Network, vocabulary: Vocabulary) -> None:
    """Let the words of a network share the vectors of their affixes. The vectors of the words stay as they are."""
    shares = _Shares(_found(vocabulary.keys), network.bias.device)
    affixes = _Affixes(shares, network.embedding.weight.shape[1])
    parametrize.register_parametrization(network.embedding, "weight", affixes)


def end_sharing(network: Network) -> None:
    """Give each word a vector of its own: the sum so far."""
    if parametrize.is_parametrized(network.embedding):
        parametrize.remove_parametrizations(network.embedding, "weight")


def whole_weights(network: Network) -> dict[str, Tensor]:
    """The network's weights by their names without affixes; the embedding has the sums."""
    weights = {name: weight for name, weight in network.state_dict().items() if "parametrizations" not in name}
    return {**weights, "embedding.weight": network.embedding.weight.detach()}


def _found(keys: Sequence[str]) -> list[list[int]]:
    """For each word, given by its key, the numbers of its affixes."""
    affixes = [[] if token <= EOS_ID else _affixes(word) for token, word in enumerate(keys)]
    counts = Counter(affix for each in affixes for affix in each)
    numbers = {affix: number for number, affix in enumerate(affix for affix in counts if counts[affix] > 1)}
    return [[numbers[affix] for affix in each if affix in numbers] for each in affixes]


def _affixes(word: str) -> list[tuple[str, str]]:
    """The affixes of a word, each with its kind."""
    beginnings = [("beginning", word[:letters]) for letters in BEGINNINGS if len(word) >= letters]
    ends = [("end", word[-letters:]) for letters in ENDS if len(word) > letters]
    return [("whole", word), *beginnings, *ends]


class _Shares:
    """The sparse matrix (words, affixes) of each affix's share in each word's vector, and its transpose."""

    def __init__(self, found: list[list[int]], device: torch.device) -> None:
        words = [word for word, numbers in enumerate(found) for _ in numbers]
        affixes = [number for numbers in found for number in numbers]
        places = torch.tensor([words, affixes], dtype=torch.long)
        values = torch.tensor([len(numbers) ** -0.5 for numbers in found for _ in numbers])
        shape = (len(found), max(affixes, default=0) + 1)
        matrix = torch.sparse_coo_tensor(places, values, shape, check_invariants=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
            self.matrix = matrix.to_sparse_csr().to(device)
            self.transposed = matrix.t().to_sparse_csr().to(device)

    def __deepcopy__(self, memo: object) -> _Shares:
        return self  # it never changes, and torch cannot copy such a matrix


class _Affixes(nn.Module):
    """From the words' own vectors E (V, D) to the sums W (V, D).

    vectors  (affixes, D), F
    """

    def __init__(self, shares: _Shares, width: int) -> None:
        super().__init__()
        self.shares = shares
        self.vectors = nn.Parameter(torch.zeros(len(shares.transposed), width, device=shares.matrix.device))

    def forward(self, own: Tensor) -> Tensor:
        return own + _Product.apply(self.vectors, self.shares)

    def right_inverse(self, whole: Tensor) -> Tensor:
        """The own vectors with these sums, when affixes begin at 0."""
        return whole


class _Product(torch.autograd.Function):
    """The shares' matrix by the affixes' vectors. autograd's own gradient would transpose the matrix in each step."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, shares: _Shares) -> Tensor:
        ctx.transposed = shares.transposed
        with torch.autocast(vectors.device.type, enabled=False):
            return shares.matrix @ vectors

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            return ctx.transposed @ gradient.float().contiguous(), None
