"""How many questions may wait, so that the last of them is still answered in time."""
from __future__ import annotations

import time
from collections import deque

ANSWERS = 64  # the last ones, which tell how long one takes
LEAST = 8  # questions that may wait however slow the last answers were; as many are many
SHARE = 0.4  # of the deadline: what comes while others are answered together waits for all of them, and then as long again


class Pace:
    """Knows the time that passes from answer to answer while many questions wait.

    While few do, an answer says little: it may be to the only question, a long one, and many short ones are answered together.
    Until many have waited, though, nothing better is known than the quickest answer that there has been.
    """

    def __init__(self):
        self._quickest = 0.0  # seconds that an answer took, at least; 0 before the first
        self._busy = 0.0  # seconds in which many questions waited, until `_since`
        self._since: float | None = None
        self._answers = deque([0.0], maxlen=ANSWERS + 1)  # what `_busy` was at each

    def waits(self, questions: int) -> None:
        """Takes note of how many questions wait now."""
        now = time.monotonic()
        if self._since is not None:
            self._busy += now - self._since
        self._since = now if questions >= LEAST else None

    def answered(self, seconds: float) -> None:
        """Takes note of an answer that took so long, before its question stops waiting."""
        self._quickest = min(self._quickest or seconds, seconds)
        if self._since is not None:
            self._answers.append(self._busy + time.monotonic() - self._since)

    def room(self, deadline: float) -> float:
        """How many questions can be answered within the deadline, in seconds; without an answer yet, any number."""
        answers = len(self._answers) - 1
        if answers:
            seconds, share = (self._answers[-1] - self._answers[0]) / answers, SHARE
        else:
            seconds, share = self._quickest, 2 * SHARE  # a first crowd has nobody to wait for
        return max(LEAST, share * deadline / seconds) if seconds else float("inf")
