"""Exact loss and accuracy of a network on a text: perplexity = exp(mean loss)."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from nextword.lm.network import Network

ROWS = 256  # logits in memory at a time: ROWS x vocabulary


@torch.no_grad()
@parametrize.cached()
def measure(network: Network, windows: Iterable[tuple[Tensor, Tensor]], batch: int, tokens: int,
            autocast: Callable[[], AbstractContextManager[object]]) -> dict:
    """Read `windows` in order, with the state of the window before, until `tokens` tokens are scored.

    Returns tokens (the number scored), loss (nats a token, exact: the softmax is over the whole vocabulary),
    perplexity, and top1 and top3: the share of tokens that are among the 1 or 3 most probable ones.
    """
    training = network.training
    network.eval()
    state, device = network.initial_state(batch), network.bias.device
    count, loss, hits = 0, 0.0, {1: 0, 3: 0}
    for inputs, targets in windows:
        with autocast():
            outputs, state = network(inputs.to(device), state)
            for x, t in zip(outputs.flatten(0, 1).split(ROWS), targets.to(device).flatten().split(ROWS)):
                logits = network.logits(x).float()
                target = logits.gather(1, t[:, None])
                loss += float((logits.logsumexp(1) - target.squeeze(1)).sum())
                better = (logits > target).sum(1)
                for k in hits:
                    hits[k] += int((better < k).sum())
        count += targets.numel()
        if count >= tokens:
            break
    network.train(training)
    mean = loss / count
    return {"tokens": count, "loss": mean, "perplexity": math.exp(min(mean, 700.0)),
            **{f"top{k}": hit / count for k, hit in hits.items()}}
