"""The metrics for Prometheus. The HTTP process keeps them; workers send their counts with their answers."""
from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nextword.serve.questions import Counts

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

disable_created_metrics()
_registry = CollectorRegistry()
_requests = Histogram("nextword_request_seconds", "Time from a request to the end of its answer", ("route", "status"),
                      buckets=SECONDS, registry=_registry)
_requests_by = functools.cache(_requests.labels)
_waiting = Gauge("nextword_waiting_requests", "Questions to the workers without an answer", registry=_registry)
_batches = Histogram("nextword_batch_size", "Questions that a worker answers together", ("operation",),
                     buckets=(1, 2, 4, 8, 16, 32), registry=_registry)
_cache_hits = Counter("nextword_state_cache_hits", "Texts with a prefix in the cache", registry=_registry)
_cache_misses = Counter("nextword_state_cache_misses", "Texts without a prefix in the cache", registry=_registry)
_cache_bytes = Gauge("nextword_state_cache_bytes", "Memory of the recent texts and their distributions",
                     registry=_registry)
_ready_workers = Gauge("nextword_ready_workers", "Workers that can answer", registry=_registry)
_restarts = Counter("nextword_worker_restarts", "Workers that ended while they served, and were replaced",
                    registry=_registry)
_info = Gauge("nextword_info", "1; the labels are the versions of service and model", ("version", "model"),
              registry=_registry)
_TICKS = os.sysconf("SC_CLK_TCK")  # in a second
_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_VERSION = version("nextword")


class Observed(Protocol):
    """The properties of a dispatcher that are metrics."""

    @property
    def model(self) -> str: ...

    @property
    def ready_workers(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def cache_bytes(self) -> int: ...

    @property
    def workers(self) -> list[int]: ...


class _Processes(Collector):
    """CPU time and memory of the HTTP process and of the workers, if the system has /proc."""

    def __init__(self) -> None:
        self.workers: list[int] = []
        self._ended_seconds = 0.0  # CPU time of workers that have ended, so that the counter does not fall
        self._seconds: dict[int, float] = {}

    def collect(self) -> Iterable[Metric]:
        seconds = CounterMetricFamily("nextword_process_cpu_seconds", "CPU time of the processes", labels=["process"])
        memory = GaugeMetricFamily("nextword_process_resident_bytes", "Memory of the processes", labels=["process"])
        own, workers = _usage(os.getpid()), {worker: usage for worker in self.workers if (usage := _usage(worker))}
        for ended in self._seconds.keys() - workers.keys():
            self._ended_seconds += self._seconds.pop(ended)
        self._seconds.update((worker, usage[0]) for worker, usage in workers.items())
        if own:
            seconds.add_metric(["http"], own[0])
            memory.add_metric(["http"], own[1])
            seconds.add_metric(["workers"], self._ended_seconds + sum(self._seconds.values()))
            memory.add_metric(["workers"], sum(resident for _, resident in workers.values()))
        return [seconds, memory]


def _usage(process: int) -> tuple[float, int] | None:
    """Return the CPU time in seconds and the memory in bytes of a process; None if they cannot be read."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE


_processes = _Processes()
_registry.register(_processes)


def record(counts: Counts) -> None:
    """Add the counts of a worker for a batch."""
    _batches.labels(counts.operation).observe(counts.questions)
    _cache_hits.inc(counts.cache_hits)
    _cache_misses.inc(counts.cache_misses)


def request_answered(route: str, status: int, seconds: float) -> None:
    """Count a request, under the path of its route or "other"."""
    _requests_by(route, status).observe(seconds)


def worker_lost() -> None:
    """Count a worker that ended while it served. Another takes its place."""
    _restarts.inc()


def exposition(service: Observed) -> bytes:
    """Return all metrics in Prometheus' text format."""
    _waiting.set(service.waiting)
    _cache_bytes.set(service.cache_bytes)
    _ready_workers.set(service.ready_workers)
    _info.clear()
    _info.labels(_VERSION, service.model).set(1)
    _processes.workers = service.workers
    return generate_latest(_registry)
