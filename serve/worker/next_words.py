"""Answers questions for next words, in a worker."""
from __future__ import annotations

import json
from collections.abc import Sequence

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.lm.phrases import lengthened
from nextword.lm.ranking import Keys
from nextword.serve.questions import COST_CHARACTERS, NextWordsQuestion
from nextword.serve.schemas import UNKNOWN_LIMIT
from nextword.serve.worker.profiles import Profiles
from nextword.serve.worker.state_cache import StateCache

TOGETHER = 16  # questions whose distributions are in memory at the same time; more take memory and save no time


class NextWords:
    """Answers each question with a `NextWordsResponse` as JSON."""

    def __init__(self, model: Model, states: StateCache, profiles: Profiles | None = None):
        self._model, self._states, self._profiles = model, states, profiles or Profiles(None)

    def cost(self, question: NextWordsQuestion) -> int:
        """Return the characters that have to be read, and those that could be read in the time of the other work."""
        unread = self._states.unread(question.text) + self._states.unread(question.history)
        return unread + COST_CHARACTERS * question.cost + self._profiles.cost(question.profile)

    def answer(self, questions: Sequence[NextWordsQuestion]) -> list[bytes]:
        texts = [text for question in questions for text in (question.text, question.history)]
        contexts = iter(self._states.read(texts))
        entries = list(zip(questions, contexts, contexts))
        answers: list[bytes] = []
        for part in (entries[first : first + TOGETHER] for first in range(0, len(entries), TOGETHER)):
            persons = [self._profiles.get(question.profile) for question, *_ in part]
            distributions = self._model.predict([text for _, text, _ in part], [history for *_, history in part],
                                                persons)
            answers += [self._answer(*entry, distribution) for entry, distribution in zip(part, distributions)]
        return answers

    def _answer(
        self, question: NextWordsQuestion, context: Context, history: Context, distribution: Distribution
    ) -> bytes:
        options = {name: getattr(question, name) for name in ("k", "partial", "punctuation", "emoji")}
        exclude = Keys.of(question.exclude)
        words = self._model.rank(distribution, **options, exclude=exclude)
        if question.max_words > 1:
            words = lengthened(self._model, words, context, history, max_words=question.max_words,
                               exclude=exclude, profile=self._profiles.get(question.profile))
        return json.dumps({  # faster than by pydantic, which makes an object of each word first
            "model": self._model.name,
            "words": [word._asdict() for word in words],
            "unknown": list(dict.fromkeys(context.unknown.values()))[:UNKNOWN_LIMIT],
            "context_used": context.length,
        }, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
