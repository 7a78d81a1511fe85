"""What the model knows after each recent text, so that a text one word longer costs one word."""
from __future__ import annotations

from collections.abc import Sequence

from serve.schemas import CONTEXT_LIMIT


class StateCache:
    """Contexts by their text.

    Args:
        model: an `lm.Model`.
    """

    def __init__(self, model):
        self._model = model

    def unread(self, text: str) -> int:
        """How many characters of a text would have to be read."""
        return len(text)

    def read(self, texts: Sequence[str]) -> list:
        """The `lm.context.Context` of each text."""
        return self._model.extend([self._model.start] * len(texts), texts, limit=CONTEXT_LIMIT)
