"""The continuous cache's two numbers, θ and λ, chosen on validation text (see lm.context)."""
from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor

from lm.context import HALF, CacheSettings
from lm.vocabulary import EOS_ID, Vocabulary

THETAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
LONGEST = 2000  # tokens of a document that are read


@torch.no_grad()
def tune_cache(program: torch.jit.ScriptModule, vocabulary: Vocabulary, documents: Iterable[str], tokens: int) -> dict:
    """The pair from THETAS x WEIGHTS with the least loss over about `tokens` tokens of documents.

    Returns {"settings": the fields of a CacheSettings, "perplexity": with it, "perplexity_without": with λ = 0, "tokens"}.
    """
    loss, count = torch.zeros(len(THETAS), len(WEIGHTS)), 0
    for document in documents:
        ids = [EOS_ID, *vocabulary.encode(document + "\n")][: LONGEST + 1]
        if len(ids) > 1:
            loss += _losses(program, torch.tensor(ids))
            count += len(ids) - 1
        if count >= tokens:
            break
    mean = loss / count
    best = min(product(range(len(THETAS)), range(len(WEIGHTS))), key=lambda pair: float(mean[pair]))
    settings = CacheSettings(THETAS[best[0]], WEIGHTS[best[1]], LONGEST)
    return {"settings": vars(settings), "perplexity": float(mean[best].exp()),
            "perplexity_without": float(mean[0, 0].exp()), "tokens": count}


def _losses(program: torch.jit.ScriptModule, ids: Tensor) -> Tensor:
    """Summed loss (THETAS, WEIGHTS) of a document's tokens (n + 1,), in nats."""
    inputs, targets = ids[:-1], ids[1:]
    outputs, _ = program.read_all(inputs[None], torch.tensor([len(inputs)]), program.initial_state(1))
    keys = outputs[0]
    model = torch.cat([program.log_probs(part).gather(1, t[:, None]).squeeze(1)
                       for part, t in zip(keys.split(256), targets.split(256))]).exp()
    similarity = keys @ keys.t()
    # Before target t, the tokens 0..t-1 are remembered; token i was to be predicted from keys[i].
    remembered = torch.arange(len(keys))
    unseen = remembered[None, :] >= remembered[:, None]
    same = targets[None, :] == targets[:, None]
    share = remembered / (remembered + HALF)
    total = torch.zeros(len(THETAS), len(WEIGHTS))
    for row, theta in enumerate(THETAS):
        attention = torch.softmax((theta * similarity).masked_fill(unseen, -torch.inf), dim=1).nan_to_num()
        cache = (attention * same).sum(1)
        for column, weight in enumerate(WEIGHTS):
            total[row, column] = -((1 - weight * share) * model + weight * share * cache).log().sum()
    return total
