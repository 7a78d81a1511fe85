"""A small decoder-only Transformer with the network's interface, for comparison with the recurrent networks.

    x = W_e[w]                                                                 embedding, tied to the output layer
    x = x + Attention(norm(x));  x = x + W_2 gelu(W_1 norm(x))               in each layer (pre-norm: Xiong et al. 2020)

Attention is causal. It has linear biases instead of positions (ALiBi: Press et al. 2022), so a text can have any
length. The state holds the keys and values of the last `memory` words, as in Transformer-XL (Dai et al. 2019). In
training, the gradient ends at the beginning of the window, as for the recurrent networks. In word-by-word prediction,
the state is the usual cache of keys and values.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention


@dataclass(frozen=True)
class Shape:
    """The sizes of the network.

    width   width of the embedding and of each layer
    inner   width of the layers' feed-forward part
    memory  number of words before the window that attention reaches
    """

    vocabulary_size: int
    width: int
    inner: int
    layers: int = 2
    heads: int = 4
    memory: int = 128


class Transformer(nn.Module):
    """From token ids and a state to output vectors and a new state, like `lm.network.Network`.

    The state is (batch, words · layers · 2 · width): the keys and values of the last `memory` words.
    """

    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__()
        self.architecture = shape
        self.embedding = nn.Embedding(shape.vocabulary_size, shape.width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary_size))
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def initial_state(self, batch: int) -> Tensor:
        """The state before the first token: (batch, 0)."""
        return self.bias.new_zeros(batch, 0)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (time, batch) int64, state → output vectors (time, batch, width), new state."""
        shape, (time, batch) = self.architecture, tokens.shape
        past = state.view(batch, -1, shape.layers, 2, shape.width)
        # Training forgets a text by setting its state to zero. Attention ignores such words.
        forgotten = nn.functional.pad((past == 0).flatten(2).all(2), (0, time))
        biases = self._biases(time, past.shape[1]).masked_fill(forgotten[:, None, None], -torch.inf)
        x = self.dropout(self.embedding(tokens.t()))
        present = []
        for number, layer in enumerate(self.layers):
            x, keys_and_values = layer(x, past[:, :, number], biases)
            present.append(keys_and_values[:, -shape.memory :])
        return self.norm(x).transpose(0, 1), torch.stack(present, 2).flatten(1).to(state.dtype)

    def _biases(self, time: int, past: int) -> Tensor:
        """(heads, time, past + time): lower for more distant words, minus infinity for later words."""
        place = torch.arange(past + time, device=self.bias.device)
        distance = place[past:, None] - place
        heads = self.architecture.heads
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=place.device) / heads)
        return torch.where(distance < 0, -torch.inf, -slopes[:, None, None] * distance)

    def logits(self, outputs: Tensor) -> Tensor:
        """Output vectors (…, width) → unnormalised log-probabilities (…, vocabulary)."""
        return linear(outputs, self.embedding.weight, self.bias)


class _Layer(nn.Module):
    def __init__(self, shape: Shape, dropout: float):
        super().__init__()
        self.heads = shape.heads
        self.before_attention, self.before_inner = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.query, self.key_value = nn.Linear(shape.width, shape.width), nn.Linear(shape.width, 2 * shape.width)
        self.attended = nn.Linear(shape.width, shape.width)
        self.up, self.down = nn.Linear(shape.width, shape.inner), nn.Linear(shape.inner, shape.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, time, width), past (batch, words, 2, width) → new x, the keys and values of past and window."""
        y = self.before_attention(x)
        present = self.key_value(y).unflatten(2, (2, -1))
        keys_and_values = torch.cat([past.to(present.dtype), present], 1)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                             for part in (self.query(y), *keys_and_values.unbind(2)))
        y = scaled_dot_product_attention(query, key, value, biases.to(query.dtype))
        x = x + self.dropout(self.attended(y.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.down(gelu(self.up(self.before_inner(x))))), keys_and_values
