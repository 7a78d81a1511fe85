"""A disk that is full, and one that cannot be written to, while training and exporting, and when serving."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nextword.lm import BundleError
from nextword.lm.bundle import ENGLISH
from tests.torture.promise import Promise, tally
from tests.torture.service import PATIENCE, ROOT, SERVE, Service, serving, wait_until
from tests.torture.traffic import Answer, Client, next_words, score
from tests.torture.trainings import corpus, training, weights

KILOBYTES = (4, 16, 32, 64, 128, 256, 512, 1024)  # a whole run takes some 300
PROMISE = "A full or read-only disk: a clear message, nothing half-written that loads; with room again it goes on"
ASKED = (next_words(), score(100), ("GET", "/metrics", None), ("GET", "/health", None), ("GET", "/", None))
PLACES = ("the run's", "the cache's")


def disks(
    bundle: Path | None, folder: Path, sizes: tuple[int, ...] = KILOBYTES, places: tuple[str, ...] = PLACES
) -> Iterator[Promise]:
    """Trains on small disks of each size, then gives them room; and on disks that cannot be written to."""
    if reason := _no_mount(folder):
        yield Promise(PROMISE, "small and read-only disks", None, reason)
        return
    text, known = corpus(folder), set()
    for what in places:
        yield _fill(text, folder, what, sizes, known)
        yield _read_only(text, folder, what, known)
    yield serve_read_only(bundle, folder)
    yield serve_until_full(bundle, folder)


def _fill(text: Path, folder: Path, what: str, sizes: tuple[int, ...], known: set[str]) -> Promise:
    faults, full = [], 0
    for size in sizes:
        with _disk(folder / "disk", f"size={size}k") as disk:
            place = _place(what, disk, folder, f"small-{size}")
            status, said = _train(text, *place)
            full += bool(status)
            if status and not _is_clear(status, said, "No space left"):
                faults.append(f"{size} kB: {_end(said)}")
            faults += _unsound(place[0], known)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            status, said = _train(text, *place)
            faults += [f"{size} kB, with room again: {_end(said)}"] if status else _unsound(place[0], known)
    return Promise(PROMISE, f"{what} disk of {', '.join(map(str, sizes))} kB, then of 64 MB", not faults,
                   f"{full} of {len(sizes)} were too small; " + ("; ".join(faults) or "each ended in one line, then went on"))  # fmt: skip


def _read_only(text: Path, folder: Path, what: str, known: set[str]) -> Promise:
    faults = []
    with _disk(folder / "disk", "size=64m") as disk:
        place = _place(what, disk, folder, "read-only")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        status, said = _train(text, *place)
        if not _is_clear(status, said, "Read-only"):
            faults.append(_end(said) or "no message")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        status, said = _train(text, *place)
        faults += [f"writable again: {_end(said)}"] if status else _unsound(place[0], known)
    return Promise(PROMISE, f"{what} disk read-only, then not", not faults,
                   "; ".join(faults) or "it ended in one line, then went on")  # fmt: skip


def _place(what: str, disk: Path, folder: Path, name: str) -> tuple[Path, Path]:
    """Returns where a run and its cache are to be, one of them on the disk."""
    return (disk / "out", folder / "cache") if what == PLACES[0] else (folder / name, disk / "cache")


def serve_read_only(bundle: Path | None, folder: Path) -> Promise:
    """Starts the service where it can write no temporary file: it serves, or says why not in one line."""
    promise, what = "Without a disk to write to the service runs, or says why not in one line", "all temporary folders read-only"
    if reason := _no_mount(folder):
        return Promise(promise, what, None, reason)
    # In a namespace of its own, whose temporary folders cannot be written to.
    shell = 'for d in /var/tmp /dev/shm /tmp; do mount --bind $d $d && mount -o remount,bind,ro $d; done; cd /tmp; exec "$@"'
    environment = {**os.environ, "TMPDIR": "/tmp", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(["unshare", "--mount", "--kill-child", "sh", "-c", shell, "sh", *SERVE,
                                "--bundle", str((bundle or ENGLISH).resolve()), "--port", "0"],
                               env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first = process.stdout.readline()
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    serves = first.startswith("Serving") and process.returncode == 0
    clear = process.returncode == 2 and not rest and first.startswith("serve:")
    return Promise(promise, what, serves or clear, "it serves and stops" if serves else _end(first + rest))


def serve_until_full(bundle: Path | None, folder: Path) -> Promise:
    """Fills the disk of its temporary files while the service runs, then kills its worker."""
    promise, what = "A disk that gets full while it serves does not matter", "all temporary space filled, the worker killed"
    if reason := _no_mount(folder):
        return Promise(promise, what, None, reason)
    (folder / "temporary").mkdir(exist_ok=True)
    with _disk(folder / "temporary", "size=4m") as disk, serving(folder, bundle) as service:
        with contextlib.suppress(OSError), (disk / "filled").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        answers = _answers(service)
        worker = service.workers()[0]
        worker.kill()
        wait_until(lambda: service.workers() not in ([], [worker]) and service.is_full(), "full service")
        answers += _answers(service)
        service.signal(signal.SIGTERM)
        status, _ = service.ended(PATIENCE)
    says = [answer.says for answer in answers]
    return Promise(promise, what, set(says) == {200} and status == 0, f"{tally(says)}; it ended with status {status}")


def _answers(service: Service) -> list[Answer]:
    with Client(service) as client:
        return [client.ask(*request) for request in ASKED]


def _train(text: Path, out: Path, cache: Path) -> tuple[int, str]:
    process = training(text, out, cache)
    _, errors = process.communicate()
    return process.returncode, errors


def _is_clear(status: int, said: str, reason: str) -> bool:
    return status in (1, 2) and "Traceback" not in said and reason in _end(said)


def _end(said: str) -> str:
    return (said.strip().splitlines() or [""])[-1]


def _unsound(out: Path, known: set[str]) -> list[str]:
    """Returns what is wrong with the run's bundle, if it has one: all are to have the same weights, the `known` ones."""
    try:
        known |= {weights(out)} if (out / "bundle").exists() else set()
    except BundleError as error:
        return [str(error)]
    return ["a bundle with other weights"] if len(known) > 1 else []


@contextlib.contextmanager
def _disk(place: Path, options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _no_mount(folder: Path) -> str | None:
    """Returns why no disk can be made here."""
    try:
        with _disk(folder / "disk", "size=1m"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no tmpfs can be mounted here, which needs root: {getattr(error, 'stderr', None) or error}"
