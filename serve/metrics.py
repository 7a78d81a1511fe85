"""What the service counts, for Prometheus. Its processes write into the files of one folder, which a scrape adds up.

The folder is PROMETHEUS_MULTIPROC_DIR of the environment, which must be set before this is imported, as `python -m nextword.serve`
does. Without it a process counts for itself.
"""
from __future__ import annotations

import os
import re
import time
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextword.serve.reserved import reserve

reserve()

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

REQUESTS = Histogram(
    "nextword_request_seconds", "Time from a request to the end of its answer", ("route", "status"), buckets=SECONDS
)
WAITING = Gauge("nextword_waiting_requests", "Questions to the workers without an answer", multiprocess_mode="livesum")
BATCHES = Histogram(
    "nextword_batch_size", "Questions that a worker answers together", ("operation",), buckets=(1, 2, 4, 8, 16, 32)
)
CACHE_HITS = Counter("nextword_state_cache_hits", "Texts of which a beginning was known")
CACHE_MISSES = Counter("nextword_state_cache_misses", "Texts of which nothing was known")
CACHE_BYTES = Gauge("nextword_state_cache_bytes", "Memory of the known texts", multiprocess_mode="livesum")


class RequestMetrics:
    """Notes each request with the path of its route, or "other"."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            REQUESTS.labels(route, status).observe(time.perf_counter() - start)


def exposition() -> bytes:
    """Everything counted, in Prometheus' text format."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(REGISTRY)
    for file in Path(folder).glob("gauge_live*.db"):
        _forget_if_dead(int(re.findall(r"\d+", file.name)[-1]), folder)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)
    return generate_latest(registry)


def _forget_if_dead(process: int, folder: str) -> None:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        mark_process_dead(process, folder)
