"""When a worker that lives is as good as dead: it was stopped, or waits for ever, or computes without an end.

Each ready worker is asked for a sign of life again and again, also while it has nothing to do, and gives it between the
questions that it answers. One that does not may be busy, on a machine that is busier still: what it computes itself tells.
"""
from __future__ import annotations

import time

EVERY = 1.0  # seconds from one look at a worker to the next
IDLE = 10  # looks in a row at which it neither had said anything nor computed
LONG = 30.0  # seconds of computing without a word: many times what the longest question takes


class Silence:
    """What is known of the silence of one worker, by the number of its process. `heard` is set when it says something."""

    def __init__(self, process: int):
        self._process, self.heard = process, True
        self._idle, self._last, self._begin = 0, 0.0, 0.0

    def is_too_long(self) -> bool:
        """To be asked every `EVERY` seconds. Counts the looks, so that a time in which all processes were halted is short."""
        computed = _computed(self._process)
        self._idle = 0 if self.heard or computed > self._last else self._idle + 1
        if self.heard:
            self._begin = computed
        self._last, self.heard = computed, False
        return self._idle >= IDLE or computed - self._begin >= LONG


def _computed(process: int) -> float:
    """Returns the seconds for which a process has computed; where the system does not tell, as if it always did."""
    try:
        return time.clock_gettime(~process << 3 | 2)  # Linux's clock of all that a process computes
    except OSError:
        return time.monotonic()
