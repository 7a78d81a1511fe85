"""Regularisation: noise in training keeps a network from learning a small corpus by heart. Evaluation has no noise.

    dropout        one mask for a sequence, the same at all steps (Gal & Ghahramani 2016), on the embedded words and on
                   the output of each layer; with `dropout_by_word`, an embedded word has one mask for a word, the same
                   at all its places in the batch
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

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nextword.lm.architecture import Architecture
from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID
from nextword.training.lstm import lstm

EQUAL = 128  # different words are filled up to a multiple of this: oneDNN takes long for a product of a new size


class RegularisedNetwork(Network):
    """The network with regularisation in training. Weights have the same names; in evaluation the results are the same.

    level: from 0 to 1, a factor for each dropout.
    """

    def __init__(self, architecture: Architecture, dropout: float = 0.0, word_dropout: float = 0.0,
                 weight_drop: float = 0.0, fresh_starts: float = 0.0, dropout_by_word: bool = False):
        super().__init__(architecture)
        self.dropout, self.word_dropout, self.weight_drop, self.level = dropout, word_dropout, weight_drop, 1.0
        self.fresh_starts, self.dropout_by_word = fresh_starts, dropout_by_word
        self._keep: Tensor | None = None
        self._words: Tensor | None = None

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self._keep = None  # (time, batch, 1): 0 where a state is forgotten before a token, else 1
        if self.training and self.fresh_starts:
            forget = (tokens == EOS_ID) & (torch.rand(tokens.shape, device=tokens.device) < self.fresh_starts)
            self._keep = (~forget).unsqueeze(2).float()
        return super().forward(tokens, state)

    def _embed(self, tokens: Tensor) -> Tensor:
        """(time, batch, embedding); or one row for each different word, if the LSTM can take that: see `lstm`."""
        if not self.training:
            return super()._embed(tokens)
        same_in_all_sequences = self.dropout_by_word or not self.dropout
        if same_in_all_sequences and self.architecture.cell == "lstm" and not tokens.is_cuda:
            tokens, self._words = tokens.unique(return_inverse=True)
            tokens = nn.functional.pad(tokens, (0, -len(tokens) % EQUAL))
        x = super()._embed(tokens)
        if self.word_dropout:
            x = x * _mask(x, (len(self.bias), 1), self.level * self.word_dropout)[tokens]
        if not (self.dropout and self.dropout_by_word):
            return self._locked(x)
        p = self.level * self.dropout
        return x * (_mask(x, self.embedding.weight.shape, p)[tokens] if self._words is None else _mask(x, x.shape, p))

    def _recur(self, layer: nn.RNNBase, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if not self.training:
            return super()._recur(layer, x, state)
        words, self._words = self._words, None  # the layers above the first one have no words
        weight: Any = layer.weight_hh_l0
        if self.weight_drop:
            weight = weight * _mask(weight, weight.shape, self.level * self.weight_drop)
        if isinstance(layer, nn.LSTM):
            x, state = lstm(layer, x, state, weight, self._keep, words)
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


def _mask(like: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p)."""
    if like.is_cuda:
        return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(1 - p)
    # 16 random bits a value, so p is exact to 1e-5. torch's bernoulli_ takes 64 bits, and four times as long.
    count = math.prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count].view(shape)
    return (bits >= min(round(p * 2**16), 2**16 - 1) - 2**15).to(like.dtype).div_(1 - p)


def activation_penalty(outputs: Tensor, size: float, change: float) -> Tensor:
    """size * mean(h_t²) + change * mean((h_t - h_{t-1})²): activation and temporal activation regularisation.

    outputs: (time, batch, features), the network's outputs after dropout.
    """
    h = outputs.float()
    penalty = size * h.pow(2).mean()
    return penalty + change * (h[1:] - h[:-1]).pow(2).mean() if len(h) > 1 else penalty
