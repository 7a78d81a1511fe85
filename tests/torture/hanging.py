"""Workers that hang: stopped, or computing for ever. One that is only slow is left alone."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.harness.client import Client, Request, next_words
from tests.harness.service import Service
from tests.harness.waiting import wait_until
from tests.torture.endless import HANG, endless
from tests.torture.promise import Promise, tally
from tests.torture.quiet_service import serving
from tests.torture.traffic import SENTENCES, load, typing

NOTICED = 13.0  # seconds until a stopped worker is killed: 10 checks, and time for a busy machine
PROMISE = "A worker that is stopped or hangs is replaced; one that is only slow is not"


def hang_worker(
    bundle: Path | None,
    folder: Path,
    crowds: tuple[int, ...] = (0, 64),
    within: float = NOTICED,
    slow_seconds: float = 40,
) -> Iterator[Promise]:
    """Stop the only worker, idle and under load; have one compute for ever; slow one down."""
    for crowd in crowds:
        with serving(folder, bundle) as service:
            yield stopped(service, crowd, within)
    with serving(folder, bundle, program=endless()) as service:
        yield _endless(service)
    with serving(folder, bundle, "--deadline", "60") as service:
        yield _slow(service, slow_seconds)


def stopped(service: Service, connections: int, within: float) -> Promise:
    """Stop the worker (SIGSTOP) under load."""
    worker, start = service.workers()[0], time.monotonic()
    with load(service, connections, typing) as crowd:
        worker.suspend()
        killed = _until_gone(worker) - start
        wait_until(service.is_full, "full service")
        back = time.monotonic() - start
        hanging = crowd.stop()
    statuses = {answer.outcome for answer in crowd.answers}
    return Promise(
        PROMISE,
        f"SIGSTOP to the worker, {f'under {connections} connections' if connections else 'idle'}",
        killed <= within and not hanging and statuses <= {200, 503, 504},
        f"{tally(answer.outcome for answer in crowd.answers)}; killed after {killed:.1f} s, full service after "
        f"{back:.1f} s; {hanging} hang",
    )


def _endless(service: Service) -> Promise:
    worker, start = service.workers()[0], time.monotonic()
    with Client(service) as client:
        status = client.ask(*next_words(HANG)).outcome
    killed = _until_gone(worker) - start
    wait_until(service.is_full, "full service")
    return Promise(
        PROMISE,
        "a question at which the worker computes for ever",
        status == 504,
        f"{status}; killed after {killed:.0f} s, full service after {time.monotonic() - start:.0f} s",
    )


def _slow(service: Service, seconds: float, others: int = 8) -> Promise:
    """Ask about the longest texts, while other processes compute on the same core."""
    worker, core = service.workers()[0], max(psutil.Process().cpu_affinity())
    worker.cpu_affinity([core])
    computing = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    with contextlib.ExitStack() as stack:
        for process in computing:
            stack.callback(process.wait)
            stack.callback(process.kill)
            psutil.Process(process.pid).cpu_affinity([core])
        with load(service, 4, _long) as crowd:
            time.sleep(seconds)
            same = service.workers() == [worker]
    slowest = max(answer.seconds for answer in crowd.answers)
    attack = f"texts of 97,000 characters, {others} other processes on the worker's core, {seconds:g} s"
    return Promise(
        PROMISE,
        attack,
        same,
        f"{tally(answer.outcome for answer in crowd.answers)}; slowest {slowest:.0f} s; "
        + ("the same worker" if same else "another worker"),
    )


def _long(draw: random.Random) -> Request:
    """Return a question about a text of 97,000 characters that was not asked about before."""
    return next_words(f"Number {draw.random()}. {SENTENCES * 1000}")


def _until_gone(worker: psutil.Process) -> float:
    """Wait for the end of the worker, and return its time."""
    wait_until(lambda: not psutil.pid_exists(worker.pid), "the end of the worker")
    return time.monotonic()
