"""On what, with what and when it was measured."""
from __future__ import annotations

import os
import platform
import re
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path


def describe(wrk: str) -> dict[str, str]:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": found[1] if found else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "litserve", "fastapi")},
        "wrk": wrk,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def busy_cores(seconds: float = 1.0) -> float:
    """Returns how many of the machine's cores are at work now."""
    before = _working_ticks()
    time.sleep(seconds)
    return (_working_ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


def _working_ticks() -> int:
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return user + nice + system + irq + softirq + steal
