"""More requests than can be answered: who gets in is answered in time, who does not is told so at once."""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture.promise import Promise, percentile, tally
from tests.torture.service import Service, serving
from tests.torture.slowed import slowed
from tests.torture.traffic import Answer, Client, Crowd, load, next_words, typing

RATE = 20.0  # answers a second
DEADLINE = 2.0  # seconds, the service's default
SLACK = 0.5  # seconds that this program may notice an answer late in
AT_ONCE = 0.5  # seconds; what is refused takes milliseconds, but its hundreds of clients share a processor
PROMISE = "Overload: accepted requests meet the deadline, the rest get 503 with Retry-After at once; then all is as before"


def overload(bundle: Path | None, folder: Path, connections: int = 400, seconds: float = 15) -> Iterator[Promise]:
    """Puts a service slowed to 20 answers a second under far more, from clients that wait and from ones that do not."""
    with serving(folder, bundle, program=slowed(RATE)) as service:
        before = _latency(service)

        def crowd_that_waits() -> Crowd:
            with load(service, connections, typing) as crowd:
                time.sleep(seconds)
            return crowd

        yield _overload(service, f"{connections} connections against {RATE:g} answers/s, {seconds:g} s", before, crowd_that_waits)

        def crowd_that_does_not() -> Crowd:
            crowd, start = Crowd(), time.monotonic()
            crowd.ask_at(service, (start + n / (2 * RATE) for n in range(int(2 * RATE * seconds))), typing)
            return crowd

        yield _overload(service, f"{2 * RATE:g} requests/s against {RATE:g} answers/s, {seconds:g} s", before, crowd_that_does_not)


def _overload(service: Service, what: str, before: float, attack) -> Promise:
    memory = _Memory(service)
    start = time.monotonic()
    crowd = attack()
    hanging = crowd.stop()
    lasted, (low, high) = time.monotonic() - start, memory.stop()
    after = _latency(service)
    accepted = [answer for answer in crowd.answers if answer.status == 200]
    refused = [answer for answer in crowd.answers if answer.status == 503]
    late = max((answer.seconds for answer in accepted), default=0)
    told = percentile([answer.seconds for answer in refused], 0.99) if refused else 0.0
    kept = (
        len(accepted) + len(refused) == len(crowd.answers)
        and not hanging
        and refused
        and len(accepted) >= 0.8 * RATE * min(lasted, 10)
        and late <= DEADLINE + SLACK
        and told <= AT_ONCE
        and all(_may_try_again(answer) for answer in refused)
        and high - low < 50_000_000
        and after < 1.5 * before + 0.05
    )
    return Promise(
        PROMISE,
        what,
        bool(kept),
        f"{tally(answer.says for answer in crowd.answers)}; slowest accepted {late:.2f} s; 99 % of the refusals within "
        f"{told * 1000:.0f} ms; memory +{(high - low) / 1e6:.0f} MB; median alone {before * 1000:.0f} ms before, "
        f"{after * 1000:.0f} ms after",
    )


def _may_try_again(answer: Answer) -> bool:
    return answer.headers.get("retry-after", "").isdecimal() and "error" in answer.json


def _latency(service: Service) -> float:
    """Returns the median time of an answer, when nobody else asks."""
    with Client(service) as client:
        answers = [client.ask(*next_words(f"Number {number}")) for number in range(20)]
    if any(answer.status != 200 for answer in answers):
        return float("inf")
    return percentile([answer.seconds for answer in answers], 0.5)


class _Memory:
    """Notes the service's memory again and again, in a thread, until stopped."""

    def __init__(self, service: Service):
        self._seen = [service.memory()]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(service,), daemon=True)
        self._thread.start()

    def _watch(self, service: Service) -> None:
        while not self._stopped.wait(0.5):
            self._seen.append(service.memory())

    def stop(self) -> tuple[int, int]:
        """Returns the bytes at the beginning and at most."""
        self._stopped.set()
        self._thread.join()
        return self._seen[0], max(self._seen)
