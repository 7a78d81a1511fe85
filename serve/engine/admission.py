"""Limits the work that may wait, so that the last question is still answered in time.

Work is counted in short questions: each question has a `cost` (`serve.questions`).
"""
from __future__ import annotations

import time
from collections import deque

MEASURED_ANSWERS = 64  # the latest answers, from which the time of one is estimated
# Short questions, however slow the latest answers were. From this many on, the queue counts as busy.
ALWAYS_ADMITTED = 8
COSTLY_SHARE = 0.5  # of the limit, beyond which short questions alone are admitted
# Of the deadline: a question may wait for a whole batch before its own, which takes as long again.
SHARE = 0.4


def is_costly(cost: int) -> bool:
    return cost > ALWAYS_ADMITTED


class Admission:
    """Estimates the time of a short question while the queue is busy.

    While little waits, an answer says little: it may be a long one alone, while many short ones are answered
    together. Until the queue was busy for the first time, the quickest answer so far is the estimate.
    """

    def __init__(self) -> None:
        self._quickest = 0.0  # seconds; 0 before the first answer
        self._busy = 0.0  # seconds in which the queue was busy, until `_busy_since`
        self._busy_since: float | None = None
        self._answered = 0  # cost of the answers while the queue was busy
        # The values of `_busy` and `_answered` at each answer.
        self._answers = deque([(0.0, 0)], maxlen=MEASURED_ANSWERS + 1)

    def queue_is(self, cost: int) -> None:
        """Note the cost of the waiting questions after it has changed."""
        now = time.monotonic()
        if self._busy_since is not None:
            self._busy += now - self._busy_since
        self._busy_since = now if cost >= ALWAYS_ADMITTED else None

    def answered(self, seconds: float, cost: int = 1) -> None:
        """Note an answer and how long it took, before its question leaves the queue."""
        self._quickest = min(self._quickest or seconds / cost, seconds / cost)
        if self._busy_since is not None:
            self._answered += cost
            self._answers.append((self._busy + time.monotonic() - self._busy_since, self._answered))

    def admits(self, cost: int, waiting: int, deadline: float, costly: int = 0) -> bool:
        """Tell whether a question can be answered within `deadline` seconds behind those that wait, by their cost.

        A costly one must leave room for short ones. One for which nothing waits is always admitted, and may take more
        than its room on a slow machine. As workers answer short ones first, it does not keep those out.

        costly: the cost of those that wait and are costly.
        """
        limit = self.limit(deadline)
        if is_costly(cost):
            return not waiting or waiting + cost <= COSTLY_SHARE * limit
        return not waiting or waiting - costly + min(costly, COSTLY_SHARE * limit) + cost <= limit

    def limit(self, deadline: float) -> float:
        """Return the cost that can be answered within `deadline` seconds; infinite before the first answer."""
        (since, before), (until, after) = self._answers[0], self._answers[-1]
        if after > before:
            seconds, share = (until - since) / (after - before), SHARE
        else:
            seconds, share = self._quickest, 2 * SHARE  # the first questions need not wait for another batch
        return max(ALWAYS_ADMITTED, share * deadline / seconds) if seconds else float("inf")
