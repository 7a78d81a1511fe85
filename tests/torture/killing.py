"""SIGKILL to each kind of process: what comes of the requests, and how soon the service is whole again."""
from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.torture.promise import Promise, tally
from tests.torture.service import Service, serving, wait_until
from tests.torture.traffic import Client, Crowd, load, next_words, typing

DEADLINE = 2.0  # seconds, the service's default
SLACK = 1.0  # seconds that this program may notice an answer late in, with 64 threads of its own
BACK = 5.0  # seconds within which the service is whole again
ENDED = 5.0  # seconds that count as "at once" for the end of all processes


def kill_worker(bundle: Path | None, folder: Path, times: int = 10, connections: int = 64, within: float = BACK) -> Iterator[Promise]:
    """Kills the only worker again and again, idle and under load."""
    for crowd_size in (0, connections):
        with serving(folder, bundle) as service:
            yield _kill_worker(service, times, crowd_size, within)
    yield kill_starting_worker(bundle, folder)


def _kill_worker(service: Service, times: int, connections: int, within: float) -> Promise:
    before, back, late = len(service.group()), [], []
    with load(service, connections, typing) as crowd:
        for number in range(times):
            time.sleep(0.1 * number % 0.5)  # not always at the same moment of a worker's life
            killed = service.workers()[0]
            start = time.monotonic()
            killed.kill()
            crowd.ask_once(service, [next_words()] * 4)  # these find no worker
            wait_until(lambda: not psutil.pid_exists(killed.pid), "the end of the worker")
            wait_until(service.is_full, "full service")
            back.append(time.monotonic() - start)
            if len(service.group()) != before:
                late.append(f"{len(service.group())} processes instead of {before}")
        hanging = crowd.stop()
    slowest = max(answer.seconds for answer in crowd.answers)
    statuses = [answer.says for answer in crowd.answers]
    kept = (
        not hanging
        and not late
        and set(statuses) <= {200, 503, 504}
        and 200 in (statuses if connections else [200])
        and slowest <= DEADLINE + SLACK
        and max(back) <= within
    )
    return Promise(
        f"A killed worker is replaced: every request is answered in time, full service is back within {within:g} s",
        f"SIGKILL to the worker, {times} times, " + (f"under {connections} connections" if connections else "idle"),
        kept,
        f"{tally(statuses)}; {hanging} hang; slowest {slowest:.2f} s; back after {min(back):.1f} to {max(back):.1f} s; "
        + ("; ".join(late) or "no process left over"),
    )


def kill_starting_worker(bundle: Path | None, folder: Path, times: int = 4) -> Promise:
    """Kills the worker and then, each as soon as it is there, those that are to replace it; after five it would give up."""
    with serving(folder, bundle) as service:
        killed: list[psutil.Process] = []
        for _ in range(1 + times):
            others = wait_until(lambda: [worker for worker in service.workers() if worker not in killed], "another worker")
            killed.append(others[0])
            killed[-1].kill()
        start = time.monotonic()
        wait_until(lambda: any(worker not in killed for worker in service.workers()) and service.is_full(), "full service")
        back = time.monotonic() - start
    return Promise("A worker that is killed before it has begun does not stop the main process",
                   f"SIGKILL to the worker, and to {times} after it as soon as they were there", True,
                   f"full service {back:.1f} s after the last")  # fmt: skip


def kill_http(bundle: Path | None, folder: Path, connections: int = 64) -> Iterator[Promise]:
    """Kills the process that speaks HTTP, idle and under load."""
    for crowd_size in (0, connections):
        with serving(folder, bundle) as service, load(service, crowd_size, typing) as crowd:
            yield _ends(service, crowd, service.http(), f"SIGKILL to the HTTP process, {_loaded(crowd_size)}")


def kill_main(bundle: Path | None, folder: Path, crowds: tuple[int, ...] = (0, 64)) -> Iterator[Promise]:
    """Kills the main process, idle and under load; and the next start takes away what could not be."""
    for crowd_size in crowds:
        with serving(folder, bundle) as service, load(service, crowd_size, typing) as crowd:
            yield _ends(service, crowd, service.main(), f"SIGKILL to the main process, {_loaded(crowd_size)}", files=False)
    left = len(list(service.temporary.iterdir()))
    with serving(folder, bundle) as service:
        service.main().terminate()
        service.ended(20)
        after = service.left_over()
    yield Promise(
        "What a killed service could not take away, the next one does",
        "start and stop after SIGKILL to the main process",
        not after,
        f"{left} temporary files or folders before, {len(after)} after",
    )


def kill_others(bundle: Path | None, folder: Path) -> Iterator[Promise]:
    """Kills each process that is neither the main one nor a worker nor speaks HTTP."""
    with serving(folder, bundle) as service:
        kinds = len(service.others())
    for number in range(kinds):
        with serving(folder, bundle) as service:
            killed = service.others()[number]
            what = "SIGKILL to " + ("the resource tracker" if "tracker" in " ".join(killed.cmdline()) else "the queues")
            killed.kill()
            status, seconds = service.ended(1)
            with Client(service) as client:
                fine = status is None and client.ask(*next_words()).status == 200
            left = [] if fine else service.left_over()
            yield Promise(
                "No process is needed unnoticed",
                what,
                fine or (bool(status) and not left),
                "it serves on" if fine else f"exit status {status} after {seconds:.1f} s; left over: {left or 'nothing'}",
            )


def _ends(service: Service, crowd: Crowd, process: psutil.Process, what: str, files: bool = True) -> Promise:
    time.sleep(0.5)
    process.kill()
    status, seconds = service.ended(ENDED)
    left = service.left_over(4 * ENDED, files)  # a busy machine takes its time to end them
    hanging = crowd.stop()
    return Promise(
        "Where it cannot go on, the whole service ends non-zero at once, for a supervisor to start it again",
        what,
        bool(status) and not left and not hanging,
        f"exit status {status} after {seconds:.2f} s; {hanging} requests hang; left over: {', '.join(left) or 'nothing'}",
    )


def _loaded(connections: int) -> str:
    return f"under {connections} connections" if connections else "idle"
