"""Draw the next token from a distribution.

First, the log-probabilities are divided by the temperature (Ackley, Hinton & Sejnowski 1985). A temperature below 1
makes likely tokens likelier. Then top-p, or nucleus, sampling (Holtzman et al. 2020, section 3.1) keeps the smallest
set of tokens whose probabilities sum to at least `top_p`.
"""
from __future__ import annotations

import random

import torch
from torch import Tensor

NARROW = 1e-3  # below this temperature, the likeliest token is always drawn; this avoids an overflow


def draw(log_probs: Tensor, number: float, *, temperature: float = 1.0, top_p: float = 1.0) -> int:
    """Draw a token, and return its place in `log_probs`.

    log_probs: (n,), not all -inf; their probabilities need not sum to 1.
    number: in [0, 1), selects the token. Uniform random numbers give the model's probabilities.
    temperature: at least 0; 0 takes the likeliest token, the first of equals.
    top_p: in [0, 1]; 0 takes the likeliest token too.
    Raises ValueError for other numbers.
    """
    if not 0 <= number < 1:
        raise ValueError(f"number is {number}; it must be in [0, 1)")
    if not temperature >= 0 or not 0 <= top_p <= 1:
        raise ValueError(f"temperature {temperature} must be at least 0, top_p {top_p} from 0 to 1")
    if temperature < NARROW:
        return int(log_probs.argmax())
    probabilities = torch.softmax(log_probs.double() / temperature, dim=0)
    if top_p == 1:
        return _at(probabilities, number)
    kept, places = _nucleus(probabilities, top_p)
    return int(places[_at(kept, number)])


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The smallest set of tokens whose probabilities sum to `top_p`, best first: their probabilities and places."""
    size = 0
    sums = probabilities[:0]
    while size < len(probabilities) and (not size or sums[-1] < top_p):  # few are usually enough; sorting all is slow
        size = min(len(probabilities), 8 * size or 100)
        values, places = probabilities.topk(size)
        sums = values.cumsum(0)
    enough = int((sums < top_p).sum()) + 1
    return values[:enough], places[:enough]


def _at(probabilities: Tensor, number: float) -> int:
    """The first place at which the cumulative probability exceeds `number` times the total."""
    sums = probabilities.cumsum(0)
    place = int(torch.searchsorted(sums, number * sums[-1], right=True))
    return min(place, int(probabilities.nonzero()[-1]))  # rounding must not select an impossible token


def uniform(seed: int, row: int, place: int) -> float:
    """A random number in [0, 1) for the token at `place` of text `row`; the same arguments always give the same number.

    So any process can continue a text, without the state of a random number generator.
    """
    return random.Random(f"{seed} {row} {place}").random()
