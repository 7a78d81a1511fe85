"""The training loop that one writes first: float32, the softmax over all words, torch's own modules, Adam.

The engine is compared with it, so it is as fast as such a loop can be: the targets are a view, gradients are set to
None, the optimizer is fused, and the output layer is tied to the embedding as the engine's is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nextword.lm.network import Network

State = tuple[Tensor, Tensor]  # of an LSTM: hidden, cell


class StraightforwardModel(nn.Module):
    """A network of the same shape and weights, of torch's modules."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        a = network.architecture
        self.embedding = nn.Embedding(a.vocabulary_size, a.embedding_size)
        self.lstm = nn.LSTM(a.embedding_size, a.hidden_size, a.layers, proj_size=a.projection_size)
        fits = a.output_size == a.embedding_size
        self.projection = nn.Identity() if fits else nn.Linear(a.output_size, a.embedding_size)
        self.decoder = nn.Linear(a.embedding_size, a.vocabulary_size)
        self.load_state_dict(
            {
                "embedding.weight": network.embedding.weight,
                "decoder.weight": network.embedding.weight,
                "decoder.bias": network.bias,
                **{f"projection.{name}": weight for name, weight in network.projection.named_parameters()},
                **{
                    f"lstm.{name.replace('_l0', f'_l{number}')}": weight
                    for number, layer in enumerate(network.recurrent)
                    for name, weight in layer.named_parameters()
                },
            }
        )
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        """tokens (time, batch) → logits (time, batch, vocabulary), the LSTM's state."""
        outputs, state = self.lstm(self.embedding(tokens), state)
        return self.decoder(self.projection(outputs)), state


class StraightforwardLoop:
    def __init__(self, network: Network, clip_norm: float) -> None:
        self.model, self.clip_norm = StraightforwardModel(network), clip_norm
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.criterion = nn.CrossEntropyLoss()
        self.state: State | None = None

    def step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        logits, state = self.model(inputs, self.state)
        loss = self.criterion(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.state = (state[0].detach(), state[1].detach())
        return loss.item()

    @torch.no_grad()
    def perplexity(self, windows: Iterable[tuple[Tensor, Tensor]], tokens: int) -> float:
        """Over `tokens` of the windows, read with carried state."""
        total, count = 0.0, 0
        state: State | None = None
        for inputs, targets in windows:
            logits, state = self.model(inputs, state)
            total += nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
            count += targets.numel()
            if count >= tokens:
                break
        return math.exp(total / count)
