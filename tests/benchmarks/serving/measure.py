"""One server under one load: latency and rate for its users, and its processor time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.serving import text
from tests.benchmarks.serving.load import Case, run_wrk
from tests.harness.any_server import Server

MOST_CONNECTIONS = 64


class Measurement(NamedTuple):
    """Latencies and CPU time a request in ms; `rate` in good answers a second; `failed`, the share of others."""

    server: str
    kind: str
    words: int
    connections: int
    round: int
    p50: float
    p99: float
    rate: float
    cpu: float
    failed: float
    requests: int

    @property
    def brief(self) -> bool:
        """Whether there are so few answers that the percentiles are those of the fastest clients alone."""
        return self.requests < 3 * self.connections

    @property
    def mean(self) -> float:
        """The mean latency in ms, from the rate (Little's law)."""
        return 1000 * self.connections / self.rate if self.rate else math.inf

    @property
    def case(self) -> Case:
        return Case(self.kind, self.words, self.connections)


class Texts:
    """Texts to ask about, as files for wrk: one for each length of context.

    The server reads a session's opening before the measurement, as it has read the earlier part of a text that is being
    written. Unrelated texts show the cost of reading a text for the first time.
    """

    def __init__(self, folder: Path, lengths: list[int]) -> None:
        words = text.words()
        self.openings = {length: text.openings(words, length, MOST_CONNECTIONS) for length in lengths}
        self.files = {length: folder / f"{length}-words.txt" for length in lengths}
        for length, file in self.files.items():
            text.write(file, self.openings[length], words)


def measure(server: Server, case: Case, texts: Texts, seconds: int, number: int, round: int = 1) -> Measurement:
    """Measure a server that has nothing else to do. `number` differs between measurements, and so do their texts."""
    if case.kind != "unrelated":
        for opening in texts.openings[case.words][: case.connections]:
            server.ask(opening, k=5)  # refused where it takes longer than the server's own deadline
    before = server.cpu_seconds()
    load = run_wrk(server.url, texts.files[case.words], case, seconds, number)
    cpu = server.cpu_seconds() - before
    server.check()
    server.settle()
    failed = load.refused + load.broken
    return Measurement(
        server.name, *case, round, load.p50, load.p99, load.rate,
        cpu=1000 * cpu / max(1, load.requests),
        failed=failed / max(1, load.requests + load.broken),
        requests=load.requests,
    )  # fmt: skip
