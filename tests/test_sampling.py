"""Tokens drawn from a distribution."""
from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from nextword.lm.sampling import draw, uniform

PROBABILITIES = [0.1, 0.4, 0.0, 0.3, 0.2]
LOG = torch.tensor(PROBABILITIES).log()
EVENLY = [(i + 0.5) / 1000 for i in range(1000)]


def shares(**options) -> list[float]:
    """How often each token is drawn by numbers that are spread evenly."""
    drawn = Counter(draw(LOG, number, **options) for number in EVENLY)
    return [drawn[place] / len(EVENLY) for place in range(len(LOG))]


def test_tokens_are_drawn_with_their_probability():
    assert shares() == pytest.approx(PROBABILITIES, abs=0.0011)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_sharpens_and_flattens(temperature):
    powers = [p ** (1 / temperature) for p in PROBABILITIES]
    assert shares(temperature=temperature) == pytest.approx([p / sum(powers) for p in powers], abs=0.0011)


def test_temperature_zero_takes_the_likeliest():
    assert shares(temperature=0) == shares(top_p=0) == [0, 1, 0, 0, 0]
    assert shares(temperature=1e-300) == [0, 1, 0, 0, 0]
    assert draw(torch.zeros(5), 0.9, temperature=0) == 0


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.3, [1]), (0.5, [1, 3]), (0.69, [1, 3]), (0.71, [1, 3, 4]), (0.95, [0, 1, 3, 4])]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    total = sum(PROBABILITIES[place] for place in kept)
    expected = [PROBABILITIES[place] / total if place in kept else 0 for place in range(len(PROBABILITIES))]
    assert shares(top_p=top_p) == pytest.approx(expected, abs=0.0021)


def test_top_p_reaches_far_into_many_tokens():
    many = torch.arange(5000.0) * 1e-9  # almost alike, so half of them are half of the probability
    drawn = {draw(many.double(), number, top_p=0.5) for number in EVENLY}
    assert len(drawn) == 1000
    assert min(drawn) >= 2500


def test_the_ends_of_the_numbers_draw_possible_tokens():
    log_probs = torch.tensor([-math.inf, 0.0, -math.inf])
    assert {draw(log_probs, number) for number in (0.0, 0.5, 1 - 2**-53)} == {1}


@pytest.mark.parametrize(
    "wrong", [{"number": 1.0}, {"number": -0.1}, {"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 1.1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        draw(LOG, **{"number": 0.5, **wrong})


def test_uniform_numbers_are_even_independent_and_stay_the_same():
    assert uniform(7, 0, 0) == uniform(7, 0, 0)
    numbers = [uniform(seed, row, place) for seed in (0, -1, 2**63) for row in range(10) for place in range(100)]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 for number in numbers)
    tenths = Counter(int(10 * number) for number in numbers)
    assert all(abs(count - 300) < 5 * math.sqrt(270) for count in tenths.values())  # of 5 deviations: once in a million
