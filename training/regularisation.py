"""Regularisation: noise in training keeps a network from learning a small corpus by heart. Evaluation has no noise.

    dropout        one mask for a sequence, the same at all steps (Gal & Ghahramani 2016), on the embedded words and on
                   the output of each layer
    word_dropout   drops whole words from the embedding, at all places of the batch (Gal & Ghahramani 2016)
    weight_drop    drops single weights of the recurrent matrix, the same at all steps (Wan et al. 2013; for LSTM
                   language models Merity et al. 2018, "AWD-LSTM")
    fresh_starts   reads some paragraphs as the start of a text, from the empty state. In use, texts are short, and the
                   text before them is another person's, so a network must not rely on it
    penalties      on large outputs, and on outputs that change fast (Merity et al. 2017)

The values that are not dropped are scaled by 1 / (1 - p), so expected values do not change. Dropout can grow from 0
during training (`level`; Morerio et al. 2017, "curriculum dropout"), because an untrained network knows nothing by
heart.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nextword.lm.architecture import Architecture
from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID
from nextword.training.lstm import lstm


class RegularisedNetwork(Network):
    """The network with regularisation in training. Weights have the same names; in evaluation the results are the same.

    level: from 0 to 1, a factor for each dropout.
    """

    def __init__(self, architecture: Architecture, dropout: float = 0.0, word_dropout: float = 0.0,
                 weight_drop: float = 0.0, fresh_starts: float = 0.0):
        super().__init__(architecture)
        self.dropout, self.word_dropout, self.weight_drop, self.level = dropout, word_dropout, weight_drop, 1.0
        self.fresh_starts = fresh_starts
        self._keep: Tensor | None = None

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self._keep = None  # (time, batch, 1): 0 where a state is forgotten before a token, else 1
        if self.training and self.fresh_starts:
            forget = (tokens == EOS_ID) & (torch.rand(tokens.shape, device=tokens.device) < self.fresh_starts)
            self._keep = (~forget).unsqueeze(2).float()
        return super().forward(tokens, state)

    def _embed(self, tokens: Tensor) -> Tensor:
        x = super()._embed(tokens)
        if self.training and self.word_dropout:
            x = x * _mask(x, (len(self.bias), 1), self.level * self.word_dropout)[tokens]
        return self._locked(x)

    def _recur(self, layer: nn.RNNBase, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if not self.training:
            return super()._recur(layer, x, state)
        weight: Any = layer.weight_hh_l0
        if self.weight_drop:
            weight = nn.functional.dropout(weight, self.level * self.weight_drop)
        if isinstance(layer, nn.LSTM):
            x, state = lstm(layer, x, state, weight, self._keep)
        else:
            x, state = self._recur_in_pieces(layer, x, state, weight)
        return self._locked(x), state

    def _recur_in_pieces(self, layer: nn.RNNBase, x: Tensor, state: Any, weight: Tensor) -> tuple[Tensor, Any]:
        """Run torch's layer in pieces. A piece begins where a state is forgotten."""
        # An argument, because a new value for the layer's attribute has had no effect in many programs, without error.
        weights = {"weight_hh_l0": weight} if self.weight_drop else {}
        if self._keep is None:
            return functional_call(layer, weights, (x, state))
        starts = [0, *(1 + (self._keep[1:] == 0).any(1).flatten().nonzero().flatten()).tolist(), len(x)]
        outputs = []
        for start, end in zip(starts, starts[1:]):
            keep = self._keep[start].to(x.dtype)
            state = tuple(part * keep for part in state) if isinstance(state, tuple) else state * keep
            output, state = functional_call(layer, weights, (x[start:end], state))
            outputs.append(output)
        return torch.cat(outputs), state

    def _locked(self, x: Tensor) -> Tensor:
        """Dropout on x (time, batch, features): a feature of a sequence is kept or dropped at all steps."""
        return x * _mask(x, (1, *x.shape[1:]), self.level * self.dropout) if self.training and self.dropout else x


def _mask(like: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(1 - p)


def activation_penalty(outputs: Tensor, size: float, change: float) -> Tensor:
    """size * mean(h_t²) + change * mean((h_t - h_{t-1})²): activation and temporal activation regularisation.

    outputs: (time, batch, features), the network's outputs after dropout.
    """
    h = outputs.float()
    penalty = size * h.pow(2).mean()
    return penalty + change * (h[1:] - h[:-1]).pow(2).mean() if len(h) > 1 else penalty
