"""Early stopping, and the test for a diverged training."""
from __future__ import annotations

import math
from dataclasses import dataclass

CLEARLY = 1.0  # nats a token; a training has diverged if its loss exceeds that of an even guess by this


@dataclass
class Stopping:
    """Counts evaluations without a better validation loss.

    best    the lowest validation loss so far, in nats a token
    since   number of evaluations since then
    """

    patience: int
    best: float = math.inf
    since: int = 0

    def update(self, loss: float) -> bool:
        """Note the validation loss of an evaluation. Returns True if it is the best so far."""
        better = loss < self.best
        self.best, self.since = (loss, 0) if better else (self.best, self.since + 1)
        return better

    @property
    def reason(self) -> str:
        """The reason why training should end, or ""."""
        return f"no better validation perplexity in {self.since} evaluations" if self.since >= self.patience else ""


def has_diverged(loss: float, vocabulary_size: int) -> bool:
    """True if a loss on training text, in nats a token, is NaN or clearly above that of an even guess."""
    return not loss <= math.log(vocabulary_size) + CLEARLY
