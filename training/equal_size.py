"""Networks of equal size for comparisons: an RNN, a GRU and a Transformer with as many parameters as an LSTM."""
from __future__ import annotations

from bisect import bisect

from torch import nn

from nextword.lm.architecture import Architecture
from nextword.lm.network import Network
from nextword.training.regularisation import RegularisedNetwork
from nextword.training.transformer import Shape, Transformer

MODELS = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM", "transformer": "Transformer"}


def build(name: str, vocabulary_size: int, width: int, hidden_size: int, dropout: float = 0.0, memory: int = 128
          ) -> Network | Transformer:
    """One of MODELS.

    width: of the embedding and the output layer, and of the Transformer's layers.
    hidden_size: of the recurrent layer, or of the Transformer's feed-forward parts.
    memory: words before a window that the Transformer reads.
    """
    if name == "transformer":
        return Transformer(Shape(vocabulary_size, width, hidden_size, memory=memory), dropout)
    return RegularisedNetwork(Architecture(vocabulary_size, name, width, hidden_size), dropout)


def parameters(network: nn.Module) -> int:
    """Their number."""
    return sum(weight.numel() for weight in network.parameters())


def equal_width(name: str, vocabulary_size: int, width: int, lstm_size: int) -> int:
    """The hidden size with which one of MODELS has the number of parameters closest to that of an LSTM of this size."""
    def count(name: str, size: int) -> int:
        return parameters(build(name, vocabulary_size, width, size))

    target, sizes = count("lstm", lstm_size), range(1, 16 * lstm_size)
    first = bisect(sizes, target, key=lambda size: count(name, size))
    return min(sizes[max(0, first - 1) : first + 1], key=lambda size: abs(count(name, size) - target))
