"""Answers questions for the next letters, in a worker."""
from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from nextword.lm.model import Model
from nextword.serve.questions import NextLettersQuestion
from nextword.serve.worker.distributions import Distributions, Predicted


class NextLetters:
    """Answers each question with a `NextLettersResponse` as JSON."""

    def __init__(self, model: Model, distributions: Distributions):
        self._model, self._distributions = model, distributions

    def answer(self, questions: Sequence[NextLettersQuestion]) -> list[bytes]:
        return [self._answer(predicted) for predicted in self._distributions.of(questions)]

    def _answer(self, predicted: Predicted[NextLettersQuestion]) -> bytes:
        letters = self._model.rank_letters(predicted.distribution, predicted.question.partial)
        end = letters.pop("", 0.0)
        return to_json({
            "model": self._model.name,
            "letters": [{"letter": letter, "probability": probability} for letter, probability in letters.items()],
            "end": end,
            "context_used": predicted.context.length,
        })
