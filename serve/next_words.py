"""Answers questions for next words, in a worker."""
from __future__ import annotations

from collections.abc import Sequence

from serve.schemas import NextWordsResponse, SuggestedWord


class NextWords:
    """Answers the fields of a `NextWordsRequest` with a `NextWordsResponse` as JSON.

    Args:
        model: an `lm.Model`.
        states: a `serve.state_cache.StateCache` of it.
    """

    def __init__(self, model, states):
        self._model, self._states = model, states

    def cost(self, question: dict) -> int:
        """The characters that have to be read for an answer."""
        return self._states.unread(question["text"])

    def answer(self, questions: Sequence[dict]) -> list[bytes]:
        contexts = self._states.read([question["text"] for question in questions])
        return [self._written(*pair) for pair in zip(self._model.predict(contexts), questions)]

    def _written(self, distribution, question: dict) -> bytes:
        wanted = {name: question[name] for name in ("k", "partial", "punctuation", "exclude")}
        words = [SuggestedWord.model_construct(**word._asdict()) for word in self._model.rank(distribution, **wanted)]
        return NextWordsResponse.model_construct(model=self._model.name, words=words).model_dump_json().encode()
