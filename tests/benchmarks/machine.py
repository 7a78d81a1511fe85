"""The machine and the software that a figure was measured with."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version

from nextword.training.machine import cores, processor


def describe(*packages: str) -> dict[str, str]:
    """Return the processor, its cores, the load, the versions of Python and of these packages, and the date.

    The load is the mean number of processes that run or wait, over one minute.
    """
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": processor(),
        "cores": str(cores()),
        "load": load,
        "Python": platform.python_version(),
        **{package: version(package) for package in packages},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def in_words(machine: dict[str, str]) -> str:
    """Return a result of `describe` as one line: "AMD EPYC, cores 2, load 0.1, Python 3.11.7, 2026-11-24"."""
    bare = ("processor", "date")
    return ", ".join(value if name in bare else f"{name} {value}" for name, value in machine.items())
