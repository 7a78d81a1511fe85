"""The metrics for Prometheus. They are kept in the HTTP process; workers send their counts with their answers."""
from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextword.serve.questions import Counts

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

disable_created_metrics()
_registry = CollectorRegistry()
_requests = Histogram("nextword_request_seconds", "Time from a request to the end of its answer", ("route", "status"),
                      buckets=SECONDS, registry=_registry)
_waiting = Gauge("nextword_waiting_requests", "Questions to the workers without an answer", registry=_registry)
_batches = Histogram("nextword_batch_size", "Questions that a worker answers together", ("operation",),
                     buckets=(1, 2, 4, 8, 16, 32), registry=_registry)
_cache_hits = Counter("nextword_state_cache_hits", "Texts of which a beginning was in the cache", registry=_registry)
_cache_misses = Counter("nextword_state_cache_misses", "Texts of which nothing was in the cache", registry=_registry)
_cache_bytes = Gauge("nextword_state_cache_bytes", "Memory of the texts in the cache", registry=_registry)


def record(counts: Counts) -> None:
    """Add what a worker has counted while it answered a batch."""
    _batches.labels(counts.operation).observe(counts.questions)
    _cache_hits.inc(counts.cache_hits)
    _cache_misses.inc(counts.cache_misses)


def exposition(waiting: int, cache_bytes: int) -> bytes:
    """Return everything in Prometheus' text format, with these values of the gauges."""
    _waiting.set(waiting)
    _cache_bytes.set(cache_bytes)
    return generate_latest(_registry)


class RequestMetrics:
    """Counts each request under the path of its route, or "other"."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 500

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting_status)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            _requests.labels(route, status).observe(time.perf_counter() - start)
