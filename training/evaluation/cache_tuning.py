"""Choose the continuous cache's settings θ, λ and size (see lm.continuous_cache) on validation text."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from nextword.lm.continuous_cache import HALF, CacheSettings, as_keys
from nextword.training.evaluation.excerpts import Text

THETAS = (0.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SIZE = 2000  # words in the cache of a served model
TIMES = 4  # a cache is chosen on this many times as much text as other settings, because only long texts show its gain
BLOCK = 256  # positions that are computed together


@torch.no_grad()
def tune_cache(program: torch.jit.ScriptModule, texts: Sequence[Text], sizes: Sequence[int] = (SIZE,)) -> dict:
    """The settings from THETAS x WEIGHTS x sizes with the lowest loss on texts.

    Returns {"settings": the fields of a CacheSettings, "perplexity": with these settings, "perplexity_without": with
    λ = 0, "tokens"}.
    """
    return best_settings(_outputs(program, texts), sizes)


@torch.no_grad()
def measure_cache(program: torch.jit.ScriptModule, texts: Sequence[Text], settings: CacheSettings) -> dict:
    """The result of `tune_cache` for given settings."""
    rows = _outputs(program, texts)
    with_cache = torch.cat([mixed_log_probs(*row, settings) for row in rows])
    return {"settings": vars(settings), "perplexity": float(with_cache.mean().neg().exp()),
            "perplexity_without": float(torch.cat([log_probs for log_probs, _, _ in rows]).mean().neg().exp()),
            "tokens": len(with_cache)}


def _outputs(program: torch.jit.ScriptModule, texts: Sequence[Text]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each text that is not empty: log-probabilities (n,), output vectors (n, D), tokens (n,)."""
    rows = []
    for text in texts:
        inputs, targets = text.ids[:-1], text.ids[1:]
        if len(targets):
            outputs = program.read_all(inputs[None], torch.tensor([len(inputs)]), program.initial_state(1))[0][0]
            rows.append((token_log_probs(program, outputs, targets), outputs, targets))
    return rows


def token_log_probs(program: torch.jit.ScriptModule, outputs: Tensor, targets: Tensor) -> Tensor:
    """The log-probabilities (n,) of tokens, from the output vectors (n, D) before them."""
    log_probs = torch.empty(len(targets))  # in one piece: small pieces between large ones would fragment the heap
    for block, part, target in zip(log_probs.split(BLOCK), outputs.split(BLOCK), targets.split(BLOCK)):
        block.copy_(program.log_probs(part).gather(1, target[:, None]).squeeze(1))
    return log_probs


def best_settings(rows: Sequence[tuple[Tensor, Tensor, Tensor]], sizes: Sequence[int]) -> dict:
    """The result of `tune_cache` for the outputs on some texts.

    rows: for each text, log-probabilities of the tokens (n,), output vectors (n, D), and the tokens (n,).
    """
    count = sum(len(targets) for _, _, targets in rows)
    mean: dict[tuple[float, float, int], float] = {}
    for size in sizes:
        loss = torch.zeros(len(THETAS), len(WEIGHTS))
        for log_probs, outputs, targets in rows:
            p_cache = cache_probabilities(outputs, targets, THETAS, size)
            for column, weight in enumerate(WEIGHTS):
                loss[:, column] -= _mixture(log_probs, p_cache, weight, size).sum(1)
        mean |= {(THETAS[i], WEIGHTS[j], size): float(loss[i, j] / count)
                 for i, j in product(range(len(THETAS)), range(len(WEIGHTS)))}
    best = min(mean, key=mean.__getitem__)
    without = mean[THETAS[0], 0.0, sizes[0]]
    return {"settings": vars(CacheSettings(*best)), "perplexity": float(torch.tensor(mean[best]).exp()),
            "perplexity_without": float(torch.tensor(without).exp()), "tokens": count}


def mixed_log_probs(log_probs: Tensor, outputs: Tensor, targets: Tensor, settings: CacheSettings) -> Tensor:
    """The log-probabilities (n,) of a text's tokens with the cache, from those without it.

    They are those of `lm.continuous_cache.mixed`, with one difference. All words outside the vocabulary are one token;
    its probability is that of `<unk>` plus that of all such words in the cache.
    """
    p_cache = cache_probabilities(outputs, targets, [settings.theta], settings.size)
    return _mixture(log_probs, p_cache, settings.weight, settings.size)[0]


def _mixture(log_probs: Tensor, p_cache: Tensor, weight: float, size: int) -> Tensor:
    cached = torch.arange(len(log_probs)).clamp(max=size)
    share = weight * cached / (cached + HALF)
    return ((1 - share) * log_probs.exp() + share * p_cache).log()


def cache_probabilities(outputs: Tensor, targets: Tensor, thetas: Sequence[float], size: int) -> Tensor:
    """p_cache of each token of a text, (thetas, n). The cache has the tokens before it, at most `size`."""
    probabilities, keys = [], as_keys(outputs).float()
    for start in range(0, len(keys), BLOCK):
        stop, first = min(start + BLOCK, len(keys)), max(0, start - size)
        # Before token t, the cache has the tokens t - size .. t - 1. Token i was predicted from keys[i].
        ago = torch.arange(start, stop)[:, None] - torch.arange(first, stop)[None]
        hidden = (ago <= 0) | (ago > size)
        similarity = keys[start:stop] @ keys[first:stop].t()
        same = targets[start:stop, None] == targets[None, first:stop]
        probabilities.append(torch.stack([
            (torch.softmax((theta * similarity).masked_fill(hidden, -torch.inf), dim=1).nan_to_num() * same).sum(1)
            for theta in thetas]))
    return torch.cat(probabilities, dim=1) if probabilities else torch.zeros(len(thetas), 0)
