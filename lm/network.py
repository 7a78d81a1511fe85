"""The network: embedding, recurrent layers, tied output layer.

    x_t = W_e[w_t]                                          embedding
    h_t = RNN(x_t, h_{t-1})                                 one or more layers of rnn, gru or lstm
    log P(w_{t+1} | w_1..w_t) = log softmax(W_e P h_t + b)  P: a linear map, only if the sizes differ

The output layer shares the embedding matrix (Press & Wolf 2017, Inan et al. 2017). With `projection_size`, a smaller
matrix projects the LSTM's output and its recurrent input (LSTMP: Sak et al. 2014; for language models Jozefowicz et al.
2016). That makes a large cell cheap.
"""
from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from nextword.lm.architecture import Architecture

# The warning says that torch uses its own LSTM instead of oneDNN's. Torch's own is the faster one here.
warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")

__all__ = ["Architecture", "Network"]

State = Tensor | tuple[Tensor, Tensor]  # of one layer: h, or for the lstm (h, c)
LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Network(nn.Module):
    """The network for training: from token ids and a state to output vectors and a new state.

    The state is one tensor (batch, sum(architecture.state_sizes)): each layer's h (and c) side by side, zeros at the
    start. The state alone is enough to continue a text.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.embedding = nn.Embedding(a.vocabulary_size, a.embedding_size)
        options = {"proj_size": a.projection_size} if a.projection_size else {}
        self.recurrent = nn.ModuleList(
            LAYERS[a.cell](a.output_size if layer else a.embedding_size, a.hidden_size, **options)
            for layer in range(a.layers)
        )
        fits = a.output_size == a.embedding_size
        self.projection = nn.Identity() if fits else nn.Linear(a.output_size, a.embedding_size)
        self.bias = nn.Parameter(torch.zeros(a.vocabulary_size))
        self._initialise()

    def _initialise(self) -> None:
        """Keep torch's uniform weights in ±1/sqrt(width), and open the LSTM's forget gates (Jozefowicz et al. 2015)."""
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if self.architecture.cell == "lstm":
            for layer in self.recurrent:
                forget = slice(self.architecture.hidden_size, 2 * self.architecture.hidden_size)
                with torch.no_grad():
                    layer.get_parameter("bias_ih_l0").zero_()[forget] = 1.0
                    layer.get_parameter("bias_hh_l0").zero_()

    def initial_state(self, batch: int) -> Tensor:
        """The state before the first token: zeros (batch, state)."""
        return self.bias.new_zeros(batch, sum(self.architecture.state_sizes))

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (time, batch) int64, state (batch, state) → output vectors (time, batch, embedding), new state."""
        x = self._embed(tokens)
        parts = [part.unsqueeze(0).contiguous() for part in state.split(self.architecture.state_sizes, dim=1)]
        new = []
        for layer in cast(Iterable[nn.RNNBase], self.recurrent):
            if self.architecture.cell == "lstm":
                h, c, *parts = parts
                x, (h, c) = self._recur(layer, x, (h, c))
                new += [h, c]
            else:
                h, *parts = parts
                x, h = self._recur(layer, x, h)
                new.append(h)
        return self.projection(x), torch.cat([part.squeeze(0).to(state.dtype) for part in new], dim=1)

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens)

    def _recur(self, layer: nn.RNNBase, x: Tensor, state: State) -> tuple[Tensor, Any]:
        return layer(x, state)

    def logits(self, outputs: Tensor) -> Tensor:
        """Output vectors (…, embedding) → unnormalised log-probabilities (…, vocabulary)."""
        return nn.functional.linear(outputs, self.embedding.weight, self.bias)
