"""More requests than can be answered: accepted ones are answered in time, the others are refused at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.harness.client import Answer, Client, next_words
from tests.harness.service import Service
from tests.torture.promise import Promise, percentile, tally
from tests.torture.quiet_service import serving
from tests.torture.slowed import slowed
from tests.torture.traffic import Crowd, load, typing

RATE = 20.0  # answers a second
DEADLINE = 2.0  # seconds, the service's default
SLACK = 0.5  # seconds by which this program may notice an answer late
AT_ONCE = 0.5  # seconds; a refusal takes milliseconds, but hundreds of clients share the processor with it
PROMISE = (
    "Overload: accepted requests meet the deadline, the rest get 503 with Retry-After at once; then all is as before"
)


def overload(bundle: Path | None, folder: Path, connections: int = 400, seconds: float = 15) -> Iterator[Promise]:
    """Ask a service of 20 answers a second for far more, by clients that wait for answers and by some that do not."""
    with serving(folder, bundle, program=slowed(RATE)) as service:
        before = _latency(service)

        def clients_that_wait() -> Crowd:
            with load(service, connections, typing) as crowd:
                time.sleep(seconds)
            return crowd

        attack = f"{connections} connections against {RATE:g} answers/s, {seconds:g} s"
        yield _overload(service, attack, before, clients_that_wait)

        def clients_that_do_not() -> Crowd:
            crowd, start = Crowd(), time.monotonic()
            crowd.ask_at(service, (start + n / (2 * RATE) for n in range(int(2 * RATE * seconds))), typing)
            return crowd

        attack = f"{2 * RATE:g} requests/s against {RATE:g} answers/s, {seconds:g} s"
        yield _overload(service, attack, before, clients_that_do_not)


def _overload(service: Service, attack: str, before: float, ask: Callable[[], Crowd]) -> Promise:
    """Have a crowd ask; compare with `before`, the latency of a lone client in seconds."""
    memory = _Memory(service)
    start = time.monotonic()
    crowd = ask()
    hanging = crowd.stop()
    lasted, (low, high) = time.monotonic() - start, memory.stop()
    after = _latency(service)
    accepted = [answer for answer in crowd.answers if answer.status == 200]
    refused = [answer for answer in crowd.answers if answer.status == 503]
    slowest = max((answer.seconds for answer in accepted), default=0)
    refusal = percentile([answer.seconds for answer in refused], 0.99) if refused else 0.0
    kept = (
        len(accepted) + len(refused) == len(crowd.answers)
        and not hanging
        and refused
        and len(accepted) >= 0.8 * RATE * min(lasted, 10)
        and slowest <= DEADLINE + SLACK
        and refusal <= AT_ONCE
        and all(_may_try_again(answer) for answer in refused)
        and high - low < 50_000_000
        and after < 1.5 * before + 0.05
    )
    return Promise(
        PROMISE,
        attack,
        bool(kept),
        f"{tally(answer.outcome for answer in crowd.answers)}; slowest accepted {slowest:.2f} s; "
        f"99 % of the refusals within {refusal * 1000:.0f} ms; memory +{(high - low) / 1e6:.0f} MB; "
        f"median alone {before * 1000:.0f} ms before, {after * 1000:.0f} ms after",
    )


def _may_try_again(answer: Answer) -> bool:
    """Tell whether the refusal says when to ask again."""
    return answer.headers.get("retry-after", "").isdecimal() and "error" in answer.json


def _latency(service: Service) -> float:
    """Return the median seconds of an answer while nobody else asks."""
    with Client(service) as client:
        answers = [client.ask(*next_words(f"Number {number}")) for number in range(20)]
    if any(answer.status != 200 for answer in answers):
        return float("inf")
    return percentile([answer.seconds for answer in answers], 0.5)


class _Memory:
    """Measures the service's memory twice a second, in a thread, until it is stopped."""

    def __init__(self, service: Service) -> None:
        self._values = [service.memory()]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(service,), daemon=True)
        self._thread.start()

    def _watch(self, service: Service) -> None:
        while not self._stopped.wait(0.5):
            self._values.append(service.memory())

    def stop(self) -> tuple[int, int]:
        """Return the bytes at the beginning and the most bytes since."""
        self._stopped.set()
        self._thread.join()
        return self._values[0], max(self._values)
