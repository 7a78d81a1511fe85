"""How probable a text is, for choosing among candidates of speech or handwriting recognition."""
from __future__ import annotations

import math


def score(model, text: str) -> dict:
    """The fields of a `ScoreResponse`; `model` is an `lm.Model`."""
    words = model.score(text)
    logprob = math.fsum(word.logprob for word in words)
    perplexity = math.exp(-logprob / len(words)) if words else None
    return {"model": model.name, "words": [word._asdict() for word in words], "logprob": logprob, "perplexity": perplexity}
