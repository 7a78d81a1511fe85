"""SIGTERM and SIGINT: to the process, to its group, and as PID 1; idle and with requests in flight."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.harness.client import Client
from tests.harness.service import SERVE, Service
from tests.harness.waiting import wait_until
from tests.torture.promise import Promise, tally
from tests.torture.quiet_service import serving
from tests.torture.traffic import Crowd, score

PROMISE = "Told to stop, it answers what is in flight, refuses what is new, exits 0 within 10 s and leaves nothing"
WITHIN = 10.0  # seconds
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
TARGETS = ("the process", "the group", "PID 1")
Case = tuple[signal.Signals, str, bool]  # the signal, its target, and whether requests are in flight
CASES: list[Case] = list(itertools.product((signal.SIGTERM, signal.SIGINT), TARGETS, (False, True)))
QUICK: list[Case] = [
    (signal.SIGTERM, "the process", True),
    (signal.SIGINT, "the group", True),
    (signal.SIGTERM, "PID 1", True),
]


def stop(bundle: Path | None, folder: Path, requests: int = 12, cases: list[Case] = CASES) -> Iterator[Promise]:
    """Stop the service in each way."""
    for number, target, busy in cases:
        attack = f"{number.name} to {target}, {f'{requests} requests in flight' if busy else 'idle'}"
        reason = _no_namespace() if target == "PID 1" else None
        if reason:
            yield Promise(PROMISE, attack, None, reason)
        else:
            yield _stop(bundle, folder, number, target, requests * busy, attack)


def _stop(bundle: Path | None, folder: Path, number: int, target: str, requests: int, attack: str) -> Promise:
    program = (*NAMESPACE, *SERVE) if target == "PID 1" else SERVE
    # A long deadline, as deadlines are not tested here.
    with serving(folder, bundle, "--deadline", "8", program=program) as service:
        shared = _shared_memory()
        crowd = _in_flight(service, requests)
        done_before = len(crowd.answers)
        service.signal(number, to_group=target == "the group")
        refusing = _refuses(service)
        status, seconds = service.ended(WITHIN + 5)
        hanging = crowd.stop()
        left = [*service.left_over(), *(_shared_memory() - shared)]
        statuses = [answer.outcome for answer in crowd.answers]
    # `unshare` gives the status of what it started.
    kept = status == 0 and seconds <= WITHIN and refusing and not hanging and not left and statuses == [200] * requests
    return Promise(
        PROMISE,
        attack,
        kept,
        f"exit status {status} after {seconds:.1f} s; "
        + (f"{requests - done_before} in flight at the signal, answers {tally(statuses)}; " if requests else "")
        + f"new connections {'refused' if refusing else 'taken'}; left over: {', '.join(left) or 'nothing'}",
    )


def _in_flight(service: Service, requests: int) -> Crowd:
    """Ask so many questions that take a while, and return when all have arrived and most have no answer."""
    crowd = Crowd()
    if requests:
        crowd.ask_once(service, [score(1500, number) for number in range(requests)])
        with Client(service) as client:

            def arrived() -> int:
                answered = len(crowd.answers)
                return answered + client.ask("GET", "/ready").json["waiting"]

            wait_until(lambda: arrived() >= requests, "all requests to have arrived")
    return crowd


def _refuses(service: Service) -> bool:
    """Tell whether new connections are refused within 3 seconds."""
    try:
        wait_until(lambda: not service.listens(), "the refusal of new connections", 3)
        return True
    except AssertionError:
        return False


def _shared_memory() -> set[str]:
    """Return the names of the shared memory and semaphores that Python's multiprocessing has on this machine."""
    folder = Path("/dev/shm")
    names = os.listdir(folder) if folder.is_dir() else []
    return {name for name in names if name.startswith(("psm_", "sem.mp-", "pym-"))}


def _no_namespace() -> str | None:
    """Return the reason why no process can be PID 1 here, or None."""
    try:
        done = subprocess.run([*NAMESPACE, sys.executable, "-c", ""], capture_output=True, text=True)
    except OSError as error:
        return f"no unshare here: {error.strerror}"
    return f"no PID namespace can be made here: {done.stderr.strip()}" if done.returncode else None
