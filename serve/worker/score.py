"""The probability of a text, for instance to choose among candidates of speech or handwriting recognition."""
from __future__ import annotations

import math
from typing import Any

from nextword.lm.model import Model


def score(model: Model, text: str) -> dict[str, Any]:
    """Return the fields of a `ScoreResponse`."""
    words = model.score(text)
    logprob = math.fsum(word.logprob for word in words)
    perplexity = math.exp(-logprob / len(words)) if words else None
    scored = [word._asdict() for word in words]
    return {"model": model.name, "words": scored, "logprob": logprob, "perplexity": perplexity}
