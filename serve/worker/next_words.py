"""Answers questions for next words, in a worker."""
from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.lm.phrases import lengthened
from nextword.lm.profile import Profile
from nextword.lm.ranking import Keys
from nextword.serve.questions import COST_CHARACTERS, NextWordsQuestion
from nextword.serve.schemas import UNKNOWN_LIMIT
from nextword.serve.text_window import BLANKS
from nextword.serve.worker.distribution_cache import DistributionCache
from nextword.serve.worker.histories import Histories
from nextword.serve.worker.profiles import Profiles
from nextword.serve.worker.state_cache import StateCache, text_key

TOGETHER = 16  # questions whose distributions are in memory at the same time; more take memory and save no time


class NextWords:
    """Answers each question with a `NextWordsResponse` as JSON.

    Args:
        model: the language model.
        states: its state cache.
        distribution_bytes: the most memory for the distributions of recent questions.
        profiles: the profiles of the worker.
    """

    def __init__(
        self, model: Model, states: StateCache, distribution_bytes: int = 12_000_000, profiles: Profiles | None = None
    ):
        self._model, self._states, self._profiles = model, states, profiles or Profiles(None)
        self._distributions = DistributionCache(model, distribution_bytes)
        self._histories = Histories() if states.remembers else Histories(0)

    def cost(self, question: NextWordsQuestion) -> int:
        """Return the characters that have to be read, and those that could be read in the time of the other work."""
        learnt = self._histories.cost(question.history) + self._profiles.cost(question.profile)
        return self._states.unread(question.text) + COST_CHARACTERS * question.cost + learnt

    def answer(self, questions: Sequence[NextWordsQuestion]) -> list[bytes]:
        entries = list(zip(questions, self._states.read([question.text for question in questions])))
        answers: list[bytes] = []
        for part in (entries[first : first + TOGETHER] for first in range(0, len(entries), TOGETHER)):
            histories = self._histories.get([question.history for question, _ in part])
            profiles = [self._profiles.get(question.profile) for question, _ in part]
            texts = [text_key(question.text.rstrip(BLANKS)) for question, _ in part]
            distributions = self._distributions.predict(texts, [context for _, context in part], histories, profiles)
            answers += map(self._answer, *zip(*part), histories, profiles, distributions)
        return answers

    def _answer(
        self, question: NextWordsQuestion, context: Context, history: Profile | None, profile: Profile | None,
        distribution: Distribution,
    ) -> bytes:
        options = {name: getattr(question, name) for name in ("k", "partial", "punctuation", "emoji")}
        exclude = Keys.of(question.exclude)
        words = self._model.rank(distribution, **options, exclude=exclude)
        if question.max_words > 1:
            words = lengthened(self._model, words, context, history, max_words=question.max_words, exclude=exclude,
                               profile=profile)
        return to_json({
            "model": self._model.name,
            "words": [word._asdict() for word in words],
            "unknown": list(dict.fromkeys(context.unknown.values()))[:UNKNOWN_LIMIT],
            "context_used": context.length,
        })
