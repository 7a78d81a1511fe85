"""Early stopping, and the sign of a training that diverged."""
from __future__ import annotations

import math
from dataclasses import dataclass

CLEARLY = 1.0  # nats a token above an even guess


@dataclass
class Stopping:
    """Counts evaluations without a better validation loss.

    best    the least validation loss so far, in nats a token
    since   evaluations since then
    """

    patience: int
    best: float = math.inf
    since: int = 0

    def update(self, loss: float) -> bool:
        """Note the validation loss of an evaluation; tells whether it is the best so far."""
        better = loss < self.best
        self.best, self.since = (loss, 0) if better else (self.best, self.since + 1)
        return better

    @property
    def reason(self) -> str:
        """A sentence that says why training should end, or nothing."""
        return f"no better validation perplexity in {self.since} evaluations" if self.since >= self.patience else ""


def has_diverged(loss: float, vocabulary_size: int) -> bool:
    """Tells whether a loss on text that was trained on, in nats a token, is no number or clearly above an even
    guess."""
    return not loss <= math.log(vocabulary_size) + CLEARLY
