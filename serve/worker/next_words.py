"""Answers questions for next words, in a worker."""
from __future__ import annotations

import json
from collections.abc import Sequence

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.lm.phrases import lengthened
from nextword.serve.schemas import HISTORY_BLOCK, TEXT_BLOCK, UNKNOWN_LIMIT
from nextword.serve.worker.state_cache import StateCache, recent

TOGETHER = 16  # questions whose distributions are there at once: more only cost memory


class NextWords:
    """Answers the fields of a `NextWordsRequest`, with one text, by a `NextWordsResponse` as JSON."""

    def __init__(self, model: Model, states: StateCache):
        self._model, self._states = model, states

    def cost(self, question: dict) -> int:
        """The characters that have to be read for an answer."""
        return sum(map(self._states.unread, _texts(question)))

    def answer(self, questions: Sequence[dict]) -> list[bytes]:
        read = iter(self._states.read([text for question in questions for text in _texts(question)]))
        known = list(zip(questions, read, read))
        answers = []
        for part in (known[first : first + TOGETHER] for first in range(0, len(known), TOGETHER)):
            _, contexts, histories = zip(*part)
            answers += [self._answer(*parts) for parts in zip(*zip(*part), self._model.predict(contexts, histories))]
        return answers

    def _answer(self, question: dict, context: Context, history: Context, distribution: Distribution) -> bytes:
        wanted = {name: question[name] for name in ("k", "partial", "punctuation", "emoji", "exclude")}
        words = self._model.rank(distribution, **wanted)
        if question["max_words"] > 1:
            words = lengthened(self._model, words, context, history, max_words=question["max_words"],
                               exclude=question["exclude"])
        return json.dumps({  # faster than by pydantic, which makes an object of each word first
            "model": self._model.name,
            "words": [word._asdict() for word in words],
            "unknown": list(dict.fromkeys(context.unknown.values()))[:UNKNOWN_LIMIT],
            "context_used": context.length,
        }, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _texts(question: dict) -> tuple[str, str]:
    return recent(question["text"], TEXT_BLOCK), recent(question["history"], HISTORY_BLOCK)
