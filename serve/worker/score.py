"""The probability of a text, for instance to choose among candidates of speech or handwriting recognition."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from nextword.lm.model import Model, Scored
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import UNK_ID

TOGETHER = 32  # tokens whose distributions are in memory at the same time


def score(model: Model, text: str, profile: Profile | None = None) -> dict[str, Any]:
    """Return the fields of a `ScoreResponse`."""
    words = model.score(text) if profile is None else list(_personal(model, text, profile))
    logprob = math.fsum(word.logprob for word in words)
    perplexity = math.exp(-logprob / len(words)) if words else None
    scored = [word._asdict() for word in words]
    return {"model": model.name, "words": scored, "logprob": logprob, "perplexity": perplexity}


def _personal(model: Model, text: str, profile: Profile) -> Iterator[Scored]:
    """Yield the probability of each token among the suggestions: the network's with the cache and the profile.

    A word that only the profile has, or the text before it, has its own probability beside that of `<unk>`.
    """
    ids, unknown = model.vocabulary.encode_with_unknown(text)
    contexts = model.before_each(ids, unknown) if ids else []
    for start in range(0, len(ids), TOGETHER):
        part = contexts[start : start + TOGETHER]
        for place, distribution in enumerate(model.predict(part, None, [profile] * len(part)), start):
            token = ids[place]
            spelling = unknown.get(place, model.vocabulary.words[token])
            probability = float(distribution.probabilities[token])
            if token == UNK_ID:
                probability += distribution.unknown.get(spelling, 0.0)
            yield Scored(spelling, math.log(max(probability, 1e-30)), token != UNK_ID)
