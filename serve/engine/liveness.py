"""Tells whether a worker hangs: it was stopped, waits for ever, or computes without an end.

Every ready worker is asked for a sign of life again and again, also while it has no question, and sends it between two
batches. A worker that sends none may be busy, on a busy machine; its own computing time tells.
"""
from __future__ import annotations

import time

INTERVAL = 1.0  # seconds between two checks of a worker
SILENT_CHECKS = 10  # checks in a row without a message and without any computing
LONGEST_COMPUTING = 30.0  # seconds of computing without a message: many times what the longest question takes


class Liveness:
    """Follows one worker. Set `heard` whenever it sends something.

    Args:
        process: its process id.
    """

    def __init__(self, process: int):
        self._process, self.heard = process, True
        self._silent_checks, self._last, self._last_heard = 0, 0.0, 0.0  # the latter two in seconds of computing

    def hangs(self) -> bool:
        """Check the worker; to be called every INTERVAL seconds.

        Checks are counted instead of seconds, so that a time in which all processes were halted does not count.
        """
        computed = _seconds_computed(self._process)
        self._silent_checks = 0 if self.heard or computed > self._last else self._silent_checks + 1
        if self.heard:
            self._last_heard = computed
        self._last, self.heard = computed, False
        return self._silent_checks >= SILENT_CHECKS or computed - self._last_heard >= LONGEST_COMPUTING


def _seconds_computed(process: int) -> float:
    """Return a process's CPU time. Where the system does not tell, the process counts as always computing."""
    try:
        return time.clock_gettime(~process << 3 | 2)  # Linux's CPU clock of that process
    except OSError:
        return time.monotonic()
