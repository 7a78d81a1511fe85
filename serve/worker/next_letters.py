"""Answers questions for the next letters, in a worker."""
from __future__ import annotations

import json
from collections.abc import Sequence

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.serve.questions import COST_CHARACTERS, NextLettersQuestion
from nextword.serve.worker.next_words import TOGETHER
from nextword.serve.worker.state_cache import StateCache


class NextLetters:
    """Answers each question with a `NextLettersResponse` as JSON."""

    def __init__(self, model: Model, states: StateCache):
        self._model, self._states = model, states

    def cost(self, question: NextLettersQuestion) -> int:
        """Return the characters that have to be read, and those that could be read in the time of the other work."""
        unread = self._states.unread(question.text) + self._states.unread(question.history)
        return unread + COST_CHARACTERS * question.cost

    def answer(self, questions: Sequence[NextLettersQuestion]) -> list[bytes]:
        texts = [text for question in questions for text in (question.text, question.history)]
        contexts = iter(self._states.read(texts))
        entries = list(zip(questions, contexts, contexts))
        answers: list[bytes] = []
        for part in (entries[first : first + TOGETHER] for first in range(0, len(entries), TOGETHER)):
            distributions = self._model.predict([text for _, text, _ in part], [history for *_, history in part])
            answers += [self._answer(question, context, distribution)
                        for (question, context, _), distribution in zip(part, distributions)]
        return answers

    def _answer(self, question: NextLettersQuestion, context: Context, distribution: Distribution) -> bytes:
        letters = self._model.rank_letters(distribution, question.partial)
        end = letters.pop("", 0.0)
        return json.dumps({
            "model": self._model.name,
            "letters": [{"letter": letter, "probability": probability} for letter, probability in letters.items()],
            "end": end,
            "context_used": context.length,
        }, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
