"""On what, with what and when it was measured."""
from __future__ import annotations

import os
import platform
import re
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


def load_average() -> float:
    """How many processes wanted a core in the last minute."""
    return os.getloadavg()[0]
