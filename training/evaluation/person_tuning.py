"""Choose the settings of the model of a person (see lm.personal), on later texts of writers with a history.

The settings are varied one after the other, with the values of STEPS, as long as the loss falls. The loss is the mean
negative logarithm of the probability of a word as it is spelled. A word that neither the vocabulary, the text nor the
writer's history has counts as one of NEW words that share the probability of `<unk>`.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextword.lm.context import Context, Distribution
from nextword.lm.continuous_cache import mixed
from nextword.lm.model import Model
from nextword.lm.personal import Personal, PersonalSettings
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import EOS_ID, UNK_ID
from nextword.lm.words import key
from nextword.training.evaluation.excerpts import Text

MOST_POSITIONS = 2_000  # of all texts, the same number in each
CONTEXT = 200  # tokens before a position that are read
NEW = 100_000
STEPS = (0.5, 0.8, 1.25, 2.0)  # factors
SHARES = ("discount_own", "most", "discount", "phrase_discount_own")  # settings that are at most 1


class _Position:
    """A word to predict: the network's probabilities (V,), the context, the writer, and the word."""

    def __init__(self, probabilities: Tensor, context: Context, writer: Profile, token: int, spelling: str) -> None:
        self.probabilities, self.context, self.writer = probabilities, context, writer
        self.token, self.spelling = token, spelling

    def loss(self, model: Model) -> float:
        distribution = mixed(self.probabilities[None], [self.context], model.cache, UNK_ID)[0]
        distribution = model.personal.mixed(distribution, self.context, [self.writer])
        return -math.log(max(1e-12, self._probability(distribution)))

    def _probability(self, distribution: Distribution) -> float:
        if self.token != UNK_ID:
            return float(distribution.probabilities[self.token])
        told = dict(distribution.unknown)
        if distribution.personal is not None:
            told = {**distribution.personal.beginning(key(self.spelling)), **told}
        return told.get(self.spelling, float(distribution.probabilities[UNK_ID]) / NEW)


@torch.inference_mode()
def tune_person(model: Model, texts: Sequence[Text], histories: Sequence[Profile], sample: int) -> dict:
    """The settings with the lowest loss on texts of writers with these histories.

    Returns {"settings": the fields of a PersonalSettings, "loss", "loss_before": with the settings of the model,
    "words": the number of positions}. The model keeps its settings.
    """
    kept = model.personal
    positions = list(_positions(model, texts, histories, sample))
    settings = kept.settings
    try:
        def loss(candidate: PersonalSettings) -> float:
            model.personal = Personal(model.vocabulary, kept.held_back, candidate)
            return float(np.mean([position.loss(model) for position in positions]))

        before = best = loss(settings)
        falling = True
        while falling:
            falling = False
            for candidate in _variations(settings):
                if (value := loss(candidate)) < best - 1e-4:
                    best, settings, falling = value, candidate, True
    finally:
        model.personal = kept
    return {"settings": asdict(settings), "loss": best, "loss_before": before, "words": len(positions)}


def _variations(settings: PersonalSettings) -> Iterator[PersonalSettings]:
    """Settings in which one number differs. The ladder stays: it changes no probability."""
    for name in (field.name for field in fields(settings) if field.name != "ladder"):
        value = getattr(settings, name)
        for place in range(len(value) if isinstance(value, tuple) else 1):
            for step in STEPS:
                new = [*value] if isinstance(value, tuple) else [value]
                new[place] = min(0.95, new[place] * step) if name in SHARES else new[place] * step
                changed: dict[str, Any] = {name: tuple(new) if isinstance(value, tuple) else new[0]}
                yield replace(settings, **changed)


def _positions(model: Model, texts: Sequence[Text], histories: Sequence[Profile], sample: int) -> Iterator[_Position]:
    draw = np.random.default_rng(0)
    for text, writer in zip(texts, histories):
        count = min(text.length, max(1, sample // len(texts)))
        for place in sorted(draw.choice(text.length, count, replace=False).tolist()):
            token = int(text.ids[place + 1])
            spelling = text.unknown.get(place, model.vocabulary.words[token])
            if token != EOS_ID:
                first = max(0, place - CONTEXT)
                unknown = {at - first: word for at, word in text.unknown.items() if first <= at < place}
                [context] = model.read([model.start], [(text.ids[first + 1 : place + 1].tolist(), unknown)])
                yield _Position(model.program.probabilities(context.output[None])[0], context, writer, token, spelling)
