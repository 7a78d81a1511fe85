"""All kinds of requests for a long time: memory and file handles must not grow."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.harness.client import Client, Request, next_words
from tests.harness.service import Service
from tests.torture.promise import Promise
from tests.torture.quiet_service import serving
from tests.torture.traffic import SENTENCES

WARM = 0.2  # share of the requests that warm the service up
SAMPLES = 50
FLAT = 0.05  # share by which memory may grow afterwards, or GROWTH where that is more
GROWTH = 10_000_000  # bytes
HANDLES = 2  # by which the number may differ for each client: its connection, and an earlier one not closed yet
WORDS = SENTENCES.split()


class Sample(NamedTuple):
    """The resident bytes and the file handles of all processes, after so many requests."""

    requests: int
    memory: int
    files: int


def soak(
    bundle: Path | None, folder: Path, requests: int = 500_000, clients: int = 4, cache: int = 64, growth: int = GROWTH
) -> Iterator[Promise]:
    """Ask so many questions of all kinds, as clients whose texts grow, and measure memory and file handles.

    Args:
        cache: megabytes of the state cache; memory grows until it is full.
        growth: bytes by which memory may grow.
    """
    with serving(folder, bundle, "--deadline", "30", "--cache", str(cache)) as service:
        answers, samples = _ask(service, requests, clients)
        faults = len(service.faults())
    warm = [sample for sample in samples if sample.requests >= WARM * requests] or samples
    third = max(1, len(warm) // 3)
    begin, end = (sum(sample.memory for sample in part) / len(part) for part in (warm[:third], warm[-third:]))
    files = {sample.files for sample in warm}
    wrong = {name: count for name, count in answers.items() if name.startswith("wrong")}
    handles = max(files) - min(files)
    kept = not wrong and not faults and end - begin <= max(FLAT * begin, growth) and handles <= HANDLES * clients
    yield Promise(
        "Memory and file handles stay flat for as long as it runs",
        f"{sum(answers.values()):,} requests from {clients} clients: "
        + ", ".join(f"{count:,} {name}" for name, count in sorted(answers.items())),
        kept,
        f"{sum(wrong.values())} wrong answers, {faults} faults in the log; "
        f"resident memory {samples[0].memory / 1e6:.0f} MB at the start, "
        f"{begin / 1e6:.1f} MB in the first third after warm-up, {end / 1e6:.1f} MB in the last "
        f"({(end / begin - 1):+.2%}); {min(files)} to {max(files)} file handles",
    )


def _ask(service: Service, requests: int, clients: int) -> tuple[Counter[str], list[Sample]]:
    """Return the numbers of answers by kind, and samples taken meanwhile."""
    counts: Counter[str] = Counter()
    lock, samples = threading.Lock(), [_sample(service, 0)]
    threads = [
        threading.Thread(
            target=_ask_as_one, args=(service, random.Random(n), requests // clients, counts, lock), daemon=True
        )
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        done = sum(counts.values())
        if done >= len(samples) * requests / SAMPLES:
            samples.append(_sample(service, done))
            wrong = sum(count for name, count in list(counts.items()) if name.startswith("wrong"))
            print(
                f"soak: {done:,} requests, {samples[-1].memory / 1e6:.1f} MB, {samples[-1].files} files, {wrong} wrong",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.1)
    samples.append(_sample(service, sum(counts.values())))
    return counts, samples


def _sample(service: Service, requests: int) -> Sample:
    return Sample(requests, service.resident_memory(), service.open_files())


def _ask_as_one(
    service: Service, draw: random.Random, requests: int, counts: Counter[str], lock: threading.Lock
) -> None:
    """Ask as a client whose text grows word by word."""
    with Client(service, timeout=60) as client:
        text = ""
        for _ in range(requests):
            text = f"{text} {draw.choice(WORDS)}".strip() if draw.random() < 0.95 and len(text) < 2000 else ""
            name, expected, request = _drawn(draw, text)
            answer = client.ask(*request)
            with lock:
                counts[name if answer.status == expected else f"wrong: {answer.outcome} to {name}"] += 1


def _drawn(draw: random.Random, text: str) -> tuple[str, int, Request]:
    """Return the name of a kind of request, the status that its answer is to have, and the request."""
    kind = draw.random()
    end = text[-300:]
    if kind < 0.60:
        return "next words", 200, next_words(text, partial=draw.choice(["", "", "t", "wa"]))
    if kind < 0.65:
        return "lists", 200, ("POST", "/v1/next-words", {"text": [end, f"{end} and", ""], "k": 3})
    if kind < 0.70:
        return "histories", 200, next_words(end, history=f"We met Zorb{draw.randrange(9999)} there.", max_words=3)
    if kind < 0.75:
        return "scores", 200, ("POST", "/v1/score", {"text": end})
    if kind < 0.80:
        return "completions", 200, ("POST", "/v1/completions", {"prompt": end, "max_tokens": 3, "stream": kind < 0.77})
    if kind < 0.85:
        return "refused", 422, ("POST", "/v1/next-words", {"text": text, "k": draw.randint(101, 999)})
    if kind < 0.88:
        return "refused", 400, ("POST", "/v1/next-words", f"not JSON {text}".encode())
    if kind < 0.90:
        return "refused", 404, ("GET", f"/nothing/{draw.randrange(10**6)}", None)
    paths = ("/", "/page/page.js", "/docs", "/v1/models", "/openapi.json", "/metrics")
    if kind < 0.92:
        return "pages and documents", 200, ("GET", draw.choice(paths), None)
    return "health", 200, ("GET", draw.choice(["/health", "/ready"]), None)
