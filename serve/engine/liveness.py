"""Detects workers that hang: a worker may be stopped, wait for ever, or compute without end.

Every ready worker is asked for a sign of life once a second, even if it has no question. It sends one between two
batches. A worker that sends none may only be busy, on a busy machine. Its CPU time shows the difference.
"""
from __future__ import annotations

import time

INTERVAL = 1.0  # seconds between two checks of a worker
SILENT_CHECKS = 10  # checks in a row without a message and without CPU time
LONGEST_COMPUTING = 30.0  # seconds of CPU time without a message: many times as long as the longest question


class Liveness:
    """The liveness of one worker. Set `heard` whenever it sends a message.

    Args:
        process: its process id.
    """

    def __init__(self, process: int):
        self._process, self.heard = process, True
        self._silent_checks, self._last, self._last_heard = 0, 0.0, 0.0  # the latter two in seconds of CPU time

    def hangs(self) -> bool:
        """Check the worker, and return True if it hangs. Call this every INTERVAL seconds.

        Checks are counted instead of seconds. So a time in which the whole machine was halted does not count.
        """
        computed = _seconds_computed(self._process)
        self._silent_checks = 0 if self.heard or computed > self._last else self._silent_checks + 1
        if self.heard:
            self._last_heard = computed
        self._last, self.heard = computed, False
        return self._silent_checks >= SILENT_CHECKS or computed - self._last_heard >= LONGEST_COMPUTING


def _seconds_computed(process: int) -> float:
    """Return a process's CPU time. If the system does not give it, the process counts as always computing."""
    try:
        return time.clock_gettime(~process << 3 | 2)  # Linux's CPU clock of that process
    except OSError:
        return time.monotonic()
