"""The service for the tests: one for all tests that only ask it, and ways to start another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import ROOT
from tests.harness import service as harness
from tests.harness.service import Service
from tests.harness.waiting import PATIENCE, wait_until

__all__ = ["PATIENCE", "ROOT", "Service", "http", "server", "serving", "started", "wait_until"]


def started(folder: Path, bundle: Path | None, *options: str) -> contextlib.AbstractContextManager[Service]:
    """Start a service, without waiting for it."""
    return harness.started(folder, bundle, *options)


def serving(folder: Path, bundle: Path | None, *options: str) -> contextlib.AbstractContextManager[Service]:
    """Start a service and wait until it can answer. Its deadline is one that a busy machine meets too."""
    return harness.serving(folder, bundle, "--deadline", "30", *options)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Service]:
    """One service for all tests that only ask it."""
    with serving(tmp_path_factory.mktemp("server"), tiny_bundle) as running:
        yield running


@pytest.fixture(scope="session")
def http(server: Service) -> Iterator[httpx.Client]:
    """A client of that service."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        yield client
