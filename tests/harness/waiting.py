"""Wait for a condition, on a machine that may be busy with other things."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 120.0  # seconds


def wait_until(condition: Callable[[], T], name: str, seconds: float = PATIENCE) -> T:
    """Call `condition` until its value is true, and return that value.

    Raises:
        AssertionError: it was not true within `seconds`; `name` says in the message what was waited for.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} seconds: {name}")
        time.sleep(0.02)
    return value
