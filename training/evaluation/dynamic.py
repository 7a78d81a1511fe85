"""Dynamic evaluation: a network learns from a text while it reads it (Krause, Kahembwe, Murray & Renals 2018).

The text is read in segments. Each segment is predicted first; only then does the network learn from it. It makes a step
against the gradient g of the segment's mean loss, and a step back towards the trained weights W. Let r be the root mean
square of a weight's gradient on training text, divided by its mean over all weights:

    w ← w - rate g / (r + 1)
    w ← w + min(1, decay r) (W - w)
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nextword.lm.network import Network

START = (1.0, 0.0005)  # first rate and decay of the tuning
WORTH = 0.001  # nats a token; tuning ends if the gain is smaller


@dataclass(frozen=True)
class DynamicSettings:
    """rate and decay: see above. segment: tokens of a segment."""

    rate: float
    decay: float
    segment: int = 20


def gradient_scales(network: Network, windows: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """r of every parameter, from windows (inputs and targets, (time, batch) int64) of training text in their order."""
    network.eval()
    squares = [torch.zeros_like(p) for p in network.parameters()]
    state = None
    for inputs, targets in windows:
        state = network.initial_state(inputs.shape[1]) if state is None else state
        outputs, state = network(inputs, state.detach())
        nn.functional.cross_entropy(network.logits(outputs).flatten(0, 1), targets.flatten()).backward()
        for square, parameter in zip(squares, network.parameters()):
            gradient: Any = parameter.grad
            square.addcmul_(gradient, gradient)
        network.zero_grad()
    roots = [square.sqrt_() for square in squares]
    mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
    return [root.div_(mean) for root in roots]


def read_dynamically(network: Network, tokens: Tensor, settings: DynamicSettings, scales: list[Tensor],
                     progress: Callable[[int], object] = lambda count: None) -> tuple[Tensor, Tensor]:
    """Read tokens (n + 1,) int64 as one text. At the end the network has its trained weights again.

    Returns the log-probability of each token after the first (n,), and the output vectors that predicted them
    (n, width), before the projection: the keys of the continuous cache.
    """
    network.eval()
    trained = [parameter.detach().clone() for parameter in network.parameters()]
    steps = [1 / (scale + 1) for scale in scales]
    pulls = [(settings.decay * scale).clamp_(max=1) for scale in scales]
    keys, log_probs = [], []
    hook = network.projection.register_forward_pre_hook(lambda _, inputs: keys.append(inputs[0].detach()[:, 0]))
    state = network.initial_state(1)
    try:
        for inputs, targets in zip(tokens[:-1].split(settings.segment), tokens[1:].split(settings.segment)):
            outputs, state = network(inputs[:, None], state.detach())
            loss = nn.functional.cross_entropy(network.logits(outputs)[:, 0], targets, reduction="none")
            log_probs.append(-loss.detach())
            loss.mean().backward()
            with torch.no_grad():
                for weights, step, pull, origin in zip(network.parameters(), steps, pulls, trained):
                    gradient: Any = weights.grad
                    weights.addcmul_(gradient, step, value=-settings.rate).lerp_(origin, pull)
            network.zero_grad(set_to_none=False)
            progress(len(targets))
    finally:
        hook.remove()
        with torch.no_grad():
            for weights, origin in zip(network.parameters(), trained):
                weights.copy_(origin)
        network.zero_grad()
    return torch.cat(log_probs), torch.cat(keys)


def tune_dynamic(loss: Callable[[DynamicSettings], float]) -> DynamicSettings:
    """Tune the settings: from START, double or halve rate and decay in turn, as long as the loss falls."""
    losses: dict[DynamicSettings, float] = {}

    def cost(settings: DynamicSettings) -> float:
        if settings not in losses:
            losses[settings] = loss(settings)
        return losses[settings]

    best, moved = DynamicSettings(*START), True
    while moved:
        moved = False
        for name in ("rate", "decay"):
            for factor in (2, 0.5):
                while cost(other := replace(best, **{name: getattr(best, name) * factor})) < cost(best) - WORTH:
                    best, moved = other, True
    return best
