"""Early stopping: watches the validation loss, and keeps the reason for which training ended as a sentence."""
from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Stopping:
    """`best` and `since` (evaluations since the best one) are the state that a checkpoint keeps."""

    patience: int
    best: float = math.inf
    since: int = 0
    reason: str = ""

    def update(self, loss: float) -> bool:
        """Whether this validation loss (nats a token) is the best so far; sets `reason` where training should end."""
        if not math.isfinite(loss):
            self.reason = f"the validation loss is {loss}: training diverged; lower learning_rate or clip_norm"
            return False
        if loss < self.best:
            self.best, self.since = loss, 0
            return True
        self.since += 1
        if self.since >= self.patience:
            self.reason = f"no better validation perplexity in {self.since} evaluations"
        return False
