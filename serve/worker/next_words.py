"""Answers questions for next words, in a worker."""
from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from nextword.lm.context import Context, Distribution
from nextword.lm.keyboards import keyboard
from nextword.lm.model import Model
from nextword.lm.phrases import lengthened
from nextword.lm.ranking import Keys
from nextword.serve.questions import COST_CHARACTERS, NextWordsQuestion
from nextword.serve.schemas import UNKNOWN_LIMIT
from nextword.serve.text_window import BLANKS
from nextword.serve.worker.distribution_cache import DistributionCache
from nextword.serve.worker.state_cache import Key, StateCache, text_key

TOGETHER = 16  # questions whose distributions are in memory at the same time; more take memory and save no time


class NextWords:
    """Answers each question with a `NextWordsResponse` as JSON.

    Args:
        model: the language model.
        states: its state cache.
        distribution_bytes: the most memory for the distributions of recent questions.
    """

    def __init__(self, model: Model, states: StateCache, distribution_bytes: int = 12_000_000):
        self._model, self._states = model, states
        self._distributions = DistributionCache(model, distribution_bytes)

    def cost(self, question: NextWordsQuestion) -> int:
        """Return the characters that have to be read, and those that could be read in the time of the other work."""
        unread = self._states.unread(question.text) + self._states.unread(question.history)
        return unread + COST_CHARACTERS * question.cost

    def answer(self, questions: Sequence[NextWordsQuestion]) -> list[bytes]:
        texts = [text for question in questions for text in (question.text, question.history)]
        contexts = iter(self._states.read(texts))
        entries = list(zip(questions, contexts, contexts))
        answers: list[bytes] = []
        for part in (entries[first : first + TOGETHER] for first in range(0, len(entries), TOGETHER)):
            keys = [_key(question) for question, *_ in part]
            distributions = self._distributions.predict(keys, *zip(*(contexts for _, *contexts in part)))
            answers += [self._answer(*entry, distribution) for entry, distribution in zip(part, distributions)]
        return answers

    def _answer(
        self, question: NextWordsQuestion, context: Context, history: Context, distribution: Distribution
    ) -> bytes:
        options = {name: getattr(question, name) for name in ("k", "partial", "punctuation", "emoji")}
        exclude = Keys.of(question.exclude)
        typed_on = keyboard(question.layout) if question.typos and question.partial else None
        words = self._model.rank(distribution, **options, exclude=exclude, keyboard=typed_on)
        if question.max_words > 1:
            words = lengthened(self._model, words, context, history, max_words=question.max_words,
                               exclude=exclude)
        return to_json({
            "model": self._model.name,
            "words": [word._asdict() for word in words],
            "unknown": list(dict.fromkeys(context.unknown.values()))[:UNKNOWN_LIMIT],
            "context_used": context.length,
        })


def _key(question: NextWordsQuestion) -> tuple[Key, ...]:
    """Return what stands for all that a question's distribution depends on."""
    return text_key(question.text.rstrip(BLANKS)), text_key(question.history.rstrip(BLANKS))
