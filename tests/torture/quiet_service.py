"""The service as the torture starts it: with the defaults, but without a log line for each request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.harness import service as harness
from tests.harness.service import SERVE, Service


def serving(
    folder: Path, bundle: Path | None, *options: str, program: Sequence[str] = SERVE
) -> AbstractContextManager[Service]:
    """Start a service and wait until it can answer; its log then has faults alone."""
    return harness.serving(folder, bundle, "--access-log", "off", *options, program=program)
