"""The continuous cache's numbers, θ, λ and size (see lm.continuous_cache), chosen on validation text."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from nextword.lm.continuous_cache import HALF, CacheSettings, as_keys
from nextword.training.evaluation.excerpts import Text

THETAS = (0.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SIZE = 2000  # words that a served model remembers
TIMES = 4  # a cache is chosen on so many times as much text as other numbers: only long texts tell its worth
BLOCK = 256  # positions looked at together


@torch.no_grad()
def tune_cache(program: torch.jit.ScriptModule, texts: Sequence[Text], sizes: Sequence[int] = (SIZE,)) -> dict:
    """The settings from THETAS x WEIGHTS x sizes with the least loss on texts.

    Returns {"settings": the fields of a CacheSettings, "perplexity": with it, "perplexity_without": with λ = 0,
    "tokens"}.
    """
    return best_settings(_read(program, texts), sizes)


@torch.no_grad()
def measure_cache(program: torch.jit.ScriptModule, texts: Sequence[Text], settings: CacheSettings) -> dict:
    """As `tune_cache`, for settings that are chosen already."""
    read = _read(program, texts)
    with_cache = torch.cat([mixed_log_probs(*row, settings) for row in read])
    return {"settings": vars(settings), "perplexity": float(with_cache.mean().neg().exp()),
            "perplexity_without": float(torch.cat([log_probs for log_probs, _, _ in read]).mean().neg().exp()),
            "tokens": len(with_cache)}


def _read(program: torch.jit.ScriptModule, texts: Sequence[Text]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each text that is not empty: log-probabilities (n,), output vectors (n, D), tokens (n,)."""
    read = []
    for text in texts:
        inputs, targets = text.ids[:-1], text.ids[1:]
        if len(targets):
            outputs = program.read_all(inputs[None], torch.tensor([len(inputs)]), program.initial_state(1))[0][0]
            read.append((token_log_probs(program, outputs, targets), outputs, targets))
    return read


def token_log_probs(program: torch.jit.ScriptModule, outputs: Tensor, targets: Tensor) -> Tensor:
    """log p (n,) of tokens from the output vectors (n, D) before them."""
    log_probs = torch.empty(len(targets))  # at once: small pieces that stay between large ones would break up the heap
    for block, part, target in zip(log_probs.split(BLOCK), outputs.split(BLOCK), targets.split(BLOCK)):
        block.copy_(program.log_probs(part).gather(1, target[:, None]).squeeze(1))
    return log_probs


def best_settings(read: Sequence[tuple[Tensor, Tensor, Tensor]], sizes: Sequence[int]) -> dict:
    """As `tune_cache`, for texts that were read: log-probabilities of the tokens (n,), output vectors (n, D), the
    tokens (n,)."""
    count = sum(len(targets) for _, _, targets in read)
    mean: dict[tuple[float, float, int], float] = {}
    for size in sizes:
        loss = torch.zeros(len(THETAS), len(WEIGHTS))
        for log_probs, outputs, targets in read:
            again = cache_probabilities(outputs, targets, THETAS, size)
            for column, weight in enumerate(WEIGHTS):
                loss[:, column] -= _mixture(log_probs, again, weight, size).sum(1)
        mean |= {(THETAS[i], WEIGHTS[j], size): float(loss[i, j] / count)
                 for i, j in product(range(len(THETAS)), range(len(WEIGHTS)))}
    best = min(mean, key=mean.__getitem__)
    without = mean[THETAS[0], 0.0, sizes[0]]
    return {"settings": vars(CacheSettings(*best)), "perplexity": float(torch.tensor(mean[best]).exp()),
            "perplexity_without": float(torch.tensor(without).exp()), "tokens": count}


def mixed_log_probs(log_probs: Tensor, outputs: Tensor, targets: Tensor, settings: CacheSettings) -> Tensor:
    """log p (n,) of the tokens of a text with the cache, from those without it: what `lm.continuous_cache.mixed` gives,
    but that
    all words outside the vocabulary are one token, whose probability is that of `<unk>` and of all remembered ones."""
    again = cache_probabilities(outputs, targets, [settings.theta], settings.size)
    return _mixture(log_probs, again, settings.weight, settings.size)[0]


def _mixture(log_probs: Tensor, again: Tensor, weight: float, size: int) -> Tensor:
    remembered = torch.arange(len(log_probs)).clamp(max=size)
    share = weight * remembered / (remembered + HALF)
    return ((1 - share) * log_probs.exp() + share * again).log()


def cache_probabilities(outputs: Tensor, targets: Tensor, thetas: Sequence[float], size: int) -> Tensor:
    """p_cache of each token of a text (thetas, n), where those before it, at most `size`, are remembered."""
    probabilities, keys = [], as_keys(outputs).float()
    for start in range(0, len(keys), BLOCK):
        stop, first = min(start + BLOCK, len(keys)), max(0, start - size)
        # Before token t, the tokens t - size .. t - 1 are remembered; token i was to be predicted from keys[i].
        ago = torch.arange(start, stop)[:, None] - torch.arange(first, stop)[None]
        hidden = (ago <= 0) | (ago > size)
        similarity = keys[start:stop] @ keys[first:stop].t()
        same = targets[start:stop, None] == targets[None, first:stop]
        probabilities.append(torch.stack([
            (torch.softmax((theta * similarity).masked_fill(hidden, -torch.inf), dim=1).nan_to_num() * same).sum(1)
            for theta in thetas]))
    return torch.cat(probabilities, dim=1) if probabilities else torch.zeros(len(thetas), 0)
