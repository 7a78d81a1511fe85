"""Answers questions for next words, in a worker."""
from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from nextword.lm.keyboards import keyboard
from nextword.lm.model import Model
from nextword.lm.phrases import lengthened
from nextword.lm.ranking import Keys
from nextword.serve.questions import NextWordsQuestion
from nextword.serve.schemas import UNKNOWN_LIMIT
from nextword.serve.worker.distributions import Distributions, Predicted


class NextWords:
    """Answers each question with a `NextWordsResponse` as JSON.

    Args:
        model: the language model.
        distributions: predicts the word after each text.
    """

    def __init__(self, model: Model, distributions: Distributions):
        self._model, self._distributions = model, distributions

    def answer(self, questions: Sequence[NextWordsQuestion]) -> list[bytes]:
        return [self._answer(predicted) for predicted in self._distributions.of(questions)]

    def _answer(self, predicted: Predicted[NextWordsQuestion]) -> bytes:
        question, context = predicted.question, predicted.context
        options = {name: getattr(question, name) for name in ("k", "partial", "punctuation", "emoji")}
        exclude = Keys.of(question.exclude)
        typed_on = keyboard(question.layout) if question.typos and question.partial else None
        words = self._model.rank(predicted.distribution, **options, exclude=exclude, keyboard=typed_on)
        if question.max_words > 1:
            words = lengthened(self._model, words, context, predicted.history, max_words=question.max_words,
                               exclude=exclude, profile=predicted.profile)
        return to_json({
            "model": self._model.name,
            "words": [word._asdict() for word in words],
            "unknown": list(dict.fromkeys(context.unknown.values()))[:UNKNOWN_LIMIT],
            "context_used": context.length,
        })
