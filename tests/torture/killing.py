"""SIGKILL to each kind of process: how the requests end, and how soon full service is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from tests.harness.client import Client, next_words
from tests.harness.service import Service
from tests.harness.waiting import wait_until
from tests.torture.promise import Promise, tally
from tests.torture.quiet_service import serving
from tests.torture.traffic import Crowd, load, typing

DEADLINE = 2.0  # seconds, the service's default
SLACK = 1.0  # seconds by which this program, with 64 threads of its own, may notice an answer late
BACK = 5.0  # seconds until full service
ENDED = 5.0  # seconds that count as "at once" for the end of all processes


def kill_worker(
    bundle: Path | None, folder: Path, times: int = 10, crowds: tuple[int, ...] = (0, 64), within: float = BACK
) -> Iterator[Promise]:
    """Kill the only worker again and again, idle and under load, and while it starts."""
    for crowd_size in crowds:
        with serving(folder, bundle) as service:
            yield _kill_worker(service, times, crowd_size, within)
    yield kill_starting_worker(bundle, folder)


def _kill_worker(service: Service, times: int, connections: int, within: float) -> Promise:
    before = len(service.group())
    back: list[float] = []  # seconds until full service, for each time
    surplus: list[str] = []
    with load(service, connections, typing) as crowd:
        for number in range(times):
            time.sleep(0.1 * number % 0.5)  # not always at the same moment of a worker's life
            killed = service.workers()[0]
            start = time.monotonic()
            killed.kill()
            crowd.ask_once(service, [next_words()] * 4)  # these find no worker
            wait_until(partial(_is_gone, killed), "the end of the worker")
            wait_until(service.is_full, "full service")
            back.append(time.monotonic() - start)
            if len(service.group()) != before:
                surplus.append(f"{len(service.group())} processes instead of {before}")
        hanging = crowd.stop()
    slowest = max(answer.seconds for answer in crowd.answers)
    outcomes = [answer.outcome for answer in crowd.answers]
    kept = (
        not hanging
        and not surplus
        and set(outcomes) <= {200, 503, 504}
        and 200 in (outcomes if connections else [200])
        and slowest <= DEADLINE + SLACK
        and max(back) <= within
    )
    return Promise(
        f"A killed worker is replaced: every request is answered in time, full service is back within {within:g} s",
        f"SIGKILL to the worker, {times} times, " + (f"under {connections} connections" if connections else "idle"),
        kept,
        f"{tally(outcomes)}; {hanging} hang; slowest {slowest:.2f} s; back after {min(back):.1f} to {max(back):.1f} s; "
        + ("; ".join(surplus) or "no process left over"),
    )


def kill_starting_worker(bundle: Path | None, folder: Path, times: int = 4) -> Promise:
    """Kill the worker, and each new one as soon as it is there. After five the service would give up."""
    with serving(folder, bundle) as service:
        killed: list[psutil.Process] = []
        for _ in range(1 + times):
            others = wait_until(
                lambda: [worker for worker in service.workers() if worker not in killed], "another worker"
            )
            killed.append(others[0])
            killed[-1].kill()
        start = time.monotonic()
        wait_until(
            lambda: any(worker not in killed for worker in service.workers()) and service.is_full(), "full service"
        )
        back = time.monotonic() - start
    return Promise(
        "A worker that is killed before it has begun does not stop the main process",
        f"SIGKILL to the worker, and to {times} after it as soon as they were there",
        True,
        f"full service {back:.1f} s after the last",
    )


def kill_http(bundle: Path | None, folder: Path, crowds: tuple[int, ...] = (0, 64)) -> Iterator[Promise]:
    """Kill the process that speaks HTTP, idle and under load."""
    for crowd_size in crowds:
        with serving(folder, bundle) as service, load(service, crowd_size, typing) as crowd:
            yield _ends(service, crowd, service.http(), f"SIGKILL to the HTTP process, {_loaded(crowd_size)}")


def kill_main(bundle: Path | None, folder: Path, crowds: tuple[int, ...] = (0, 64)) -> Iterator[Promise]:
    """Kill the main process, idle and under load."""
    for crowd_size in crowds:
        with serving(folder, bundle) as service, load(service, crowd_size, typing) as crowd:
            yield _ends(service, crowd, service.main(), f"SIGKILL to the main process, {_loaded(crowd_size)}")


def kill_others(bundle: Path | None, folder: Path) -> Iterator[Promise]:
    """Kill each process that is neither the main one nor a worker nor speaks HTTP."""
    with serving(folder, bundle) as service:
        kinds = len(service.others())
    for number in range(kinds):
        with serving(folder, bundle) as service:
            killed = service.others()[number]
            attack = "SIGKILL to " + (
                "the resource tracker" if "tracker" in " ".join(killed.cmdline()) else "the queues"
            )
            killed.kill()
            status, seconds = service.ended(1)
            with Client(service) as client:
                fine = status is None and client.ask(*next_words()).status == 200
            left = [] if fine else service.left_over()
            yield Promise(
                "No process is needed unnoticed",
                attack,
                fine or (bool(status) and not left),
                "it serves on"
                if fine
                else f"exit status {status} after {seconds:.1f} s; left over: {left or 'nothing'}",
            )


def _is_gone(process: psutil.Process) -> bool:
    return not psutil.pid_exists(process.pid)


def _ends(service: Service, crowd: Crowd, process: psutil.Process, attack: str) -> Promise:
    """Kill the process: all of the service is to end at once, with a status that is not 0."""
    time.sleep(0.5)
    process.kill()
    status, seconds = service.ended(ENDED)
    left = service.left_over(4 * ENDED)  # a busy machine takes its time to end them
    hanging = crowd.stop()
    return Promise(
        "Where it cannot go on, the whole service ends non-zero at once, for a supervisor to start it again",
        attack,
        bool(status) and not left and not hanging,
        f"exit status {status} after {seconds:.2f} s; {hanging} requests hang; "
        f"left over: {', '.join(left) or 'nothing'}",
    )


def _loaded(connections: int) -> str:
    return f"under {connections} connections" if connections else "idle"
