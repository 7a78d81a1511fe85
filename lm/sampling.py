"""Drawing the next token from a distribution.

First the temperature: log-probabilities are divided by it (Ackley, Hinton & Sejnowski 1985), so that below 1 likely
tokens become likelier still. Then the nucleus, top-p (Holtzman et al. 2020, section 3.1): only the smallest set of
tokens is kept whose probabilities together reach `top_p`.
"""
from __future__ import annotations

import random

import torch
from torch import Tensor

NARROW = 1e-3  # a temperature below which the likeliest token is as good as certain; avoids overflow


def draw(log_probs: Tensor, number: float, *, temperature: float = 1.0, top_p: float = 1.0) -> int:
    """The place of the token that a number in [0, 1) falls on: numbers that are spread evenly draw as the model says.

    log_probs: (n,), not all -inf; they need not sum to one. temperature: 0 takes the likeliest token, the first of
    equals. top_p: in [0, 1]; 0 takes the likeliest too.
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
    """The likeliest tokens that reach `top_p` together, best first: probabilities and places."""
    size = 0
    sums = probabilities[:0]
    while size < len(probabilities) and (not size or sums[-1] < top_p):  # few are usually enough, and sorting all is slow
        size = min(len(probabilities), 8 * size or 100)
        values, places = probabilities.topk(size)
        sums = values.cumsum(0)
    enough = int((sums < top_p).sum()) + 1
    return values[:enough], places[:enough]


def _at(probabilities: Tensor, number: float) -> int:
    """Where along the tokens, each as long as its probability, a share `number` of the whole length ends."""
    sums = probabilities.cumsum(0)
    place = int(torch.searchsorted(sums, number * sums[-1], right=True))
    return min(place, int(probabilities.nonzero()[-1]))  # rounding must not lead behind the last possible one


def uniform(seed: int, row: int, place: int) -> float:
    """The number in [0, 1) for the token at `place` of text `row`: the same for the same three, on any machine.

    A text can so be continued by whoever has it, without a generator's state.
    """
    return random.Random(f"{seed} {row} {place}").random()
