"""The limit of waiting questions, so that the last one is still answered in time."""
from __future__ import annotations

import time
from collections import deque

MEASURED_ANSWERS = 64  # the latest answers; they give the estimated time of one answer
# This many questions are always admitted. From this many on, the queue counts as busy.
ALWAYS_ADMITTED = 8
# Share of the deadline: a question may wait for a whole batch, and its own batch takes as long again.
SHARE = 0.4


class Admission:
    """Estimates the time from one answer to the next while the queue is busy.

    While few questions wait, answers say little: a worker may answer a single long question, or many short ones
    together. Before the queue is busy for the first time, the estimate is the time of the quickest answer.
    """

    def __init__(self) -> None:
        self._quickest = 0.0  # seconds; 0 before the first answer
        self._busy = 0.0  # seconds in which the queue was busy, until `_busy_since`
        self._busy_since: float | None = None
        self._answers = deque([0.0], maxlen=MEASURED_ANSWERS + 1)  # the value of `_busy` at each answer

    def queue_is(self, questions: int) -> None:
        """Note the new number of waiting questions."""
        now = time.monotonic()
        if self._busy_since is not None:
            self._busy += now - self._busy_since
        self._busy_since = now if questions >= ALWAYS_ADMITTED else None

    def answered(self, seconds: float) -> None:
        """Note an answer and its time. Call this before its question leaves the queue."""
        self._quickest = min(self._quickest or seconds, seconds)
        if self._busy_since is not None:
            self._answers.append(self._busy + time.monotonic() - self._busy_since)

    def limit(self, deadline: float) -> float:
        """Return the number of questions that can be answered within `deadline` seconds; at first, infinity."""
        answers = len(self._answers) - 1
        if answers:
            seconds, share = (self._answers[-1] - self._answers[0]) / answers, SHARE
        else:
            seconds, share = self._quickest, 2 * SHARE  # the first questions need not wait for another batch
        return max(ALWAYS_ADMITTED, share * deadline / seconds) if seconds else float("inf")
