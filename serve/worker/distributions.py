"""The distributions for questions that have a text, a history and a profile, in a worker."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.lm.profile import Profile
from nextword.serve.questions import COST_CHARACTERS
from nextword.serve.text_window import BLANKS
from nextword.serve.worker.distribution_cache import DistributionCache
from nextword.serve.worker.histories import Histories
from nextword.serve.worker.profiles import Profiles
from nextword.serve.worker.state_cache import StateCache, text_key


class TextQuestion(Protocol):
    """A question about the word after a text."""

    text: str
    history: str
    profile: str

    @property
    def cost(self) -> int: ...


Asked = TypeVar("Asked", bound=TextQuestion)


class Predicted(NamedTuple, Generic[Asked]):
    """A question, and what its answer needs."""

    question: Asked
    context: Context
    history: Profile | None
    profile: Profile | None
    distribution: Distribution


class Distributions:
    """Reads texts, and predicts the word after each.

    Args:
        model: the language model.
        states: its state cache.
        limit: the most bytes of the distributions of recent questions.
        profiles: the profiles of the worker.
    """

    def __init__(self, model: Model, states: StateCache, limit: int = 12_000_000, profiles: Profiles | None = None):
        self._states, self._profiles = states, profiles or Profiles(None)
        self._distributions = DistributionCache(model, limit)
        self._histories = Histories() if states.remembers else Histories(0)

    @property
    def bytes(self) -> int:
        """The approximate size of the states and the distributions that are kept."""
        return self._states.bytes + self._distributions.bytes

    def cost(self, question: TextQuestion) -> int:
        """Return the characters that have to be read, and those that could be read in the time of the other work."""
        learnt = self._histories.cost(question.history) + self._profiles.cost(question.profile)
        return self._states.unread(question.text) + COST_CHARACTERS * question.cost + learnt

    def of(self, questions: Sequence[Asked]) -> Iterator[Predicted[Asked]]:
        """Return the distribution of each question."""
        contexts = self._states.read([question.text for question in questions])
        histories = self._histories.get([question.history for question in questions])
        profiles = [self._profiles.get(question.profile) for question in questions]
        texts = [text_key(question.text.rstrip(BLANKS)) for question in questions]
        distributions = self._distributions.predict(texts, contexts, histories, profiles)
        return map(Predicted, questions, contexts, histories, profiles, distributions)
