"""A full disk and a read-only one, during training, export and serving."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nextword.lm import BundleError
from nextword.lm.bundle import ENGLISH
from tests.harness import ROOT
from tests.harness.client import Client, next_words
from tests.harness.service import SERVE, Service
from tests.harness.waiting import PATIENCE, wait_until
from tests.torture.promise import Promise, tally
from tests.torture.quiet_service import serving
from tests.torture.traffic import score
from tests.torture.trainings import corpus, training, weights

KILOBYTES = (4, 16, 32, 64, 128, 256, 512, 1024)  # a whole run takes some 300
PROMISE = "A full or read-only disk: a clear message, nothing half-written that loads; with room again it goes on"
REQUESTS = (next_words(), score(100), ("GET", "/metrics", None), ("GET", "/health", None), ("GET", "/", None))
PLACES = ("the run's", "the cache's")


def disks(
    bundle: Path | None, folder: Path, sizes: tuple[int, ...] = KILOBYTES, places: tuple[str, ...] = PLACES
) -> Iterator[Promise]:
    """Train on small disks of each size, then give them room; train and serve on read-only and full disks."""
    if reason := no_mount(folder):
        yield Promise(PROMISE, "small and read-only disks", None, reason)
        return
    text = corpus(folder)
    known: set[str] = set()
    for name in places:
        yield _fill(text, folder, name, sizes, known)
        yield _read_only(text, folder, name, known)
    yield serve_read_only(bundle, folder)
    yield serve_until_full(bundle, folder)


def _fill(text: Path, folder: Path, name: str, sizes: tuple[int, ...], known: set[str]) -> Promise:
    """Train where the disk of the run or of the cache is too small, then go on with room."""
    faults: list[str] = []
    full = 0
    for size in sizes:
        with small_disk(folder / "disk", f"size={size}k") as disk:
            place = _place(name, disk, folder, f"small-{size}")
            status, errors = _train(text, *place)
            full += bool(status)
            if status and not _is_clear(status, errors, "No space left"):
                faults.append(f"{size} kB: {_end(errors)}")
            faults += _unsound(place[0], known)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            status, errors = _train(text, *place)
            faults += [f"{size} kB, with room again: {_end(errors)}"] if status else _unsound(place[0], known)
    return Promise(
        PROMISE,
        f"{name} disk of {', '.join(map(str, sizes))} kB, then of 64 MB",
        not faults,
        f"{full} of {len(sizes)} were too small; " + ("; ".join(faults) or "each ended in one line, then went on"),
    )


def _read_only(text: Path, folder: Path, name: str, known: set[str]) -> Promise:
    """Train where the disk of the run or of the cache is read-only, then go on where it is not."""
    faults: list[str] = []
    with small_disk(folder / "disk", "size=64m") as disk:
        place = _place(name, disk, folder, "read-only")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        status, errors = _train(text, *place)
        if not _is_clear(status, errors, "Read-only"):
            faults.append(_end(errors) or "no message")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        status, errors = _train(text, *place)
        faults += [f"writable again: {_end(errors)}"] if status else _unsound(place[0], known)
    return Promise(
        PROMISE,
        f"{name} disk read-only, then not",
        not faults,
        "; ".join(faults) or "it ended in one line, then went on",
    )


def _place(name: str, disk: Path, folder: Path, run: str) -> tuple[Path, Path]:
    """Return the folders of a run and of its cache; the one that `name` says is on the disk."""
    return (disk / "out", folder / "cache") if name == PLACES[0] else (folder / run, disk / "cache")


def serve_read_only(bundle: Path | None, folder: Path) -> Promise:
    """Start the service where it can write no temporary file."""
    promise = "Without a disk to write to the service runs, or says why not in one line"
    attack = "all temporary folders read-only"
    if reason := no_mount(folder):
        return Promise(promise, attack, None, reason)
    # In a namespace of its own, whose temporary folders cannot be written to.
    shell = "for d in /var/tmp /dev/shm /tmp; do mount --bind $d $d && mount -o remount,bind,ro $d; done; "
    shell += 'cd /tmp; exec "$@"'
    environment = {**os.environ, "TMPDIR": "/tmp", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--kill-child",
            "sh",
            "-c",
            shell,
            "sh",
            *SERVE,
            "--bundle",
            str((bundle or ENGLISH).resolve()),
            "--port",
            "0",
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("Serving"):
            break
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    output += rest
    serves = "\nServing" in f"\n{output}" and process.returncode == 0
    clear = process.returncode == 2 and output.count("\n") == 1 and output.startswith("nextword serve:")
    return Promise(promise, attack, serves or clear, "it serves and stops" if serves else _end(output))


def serve_until_full(bundle: Path | None, folder: Path) -> Promise:
    """Fill the disk of its temporary files while the service runs, then kill its worker."""
    promise = "A disk that gets full while it serves does not matter"
    attack = "all temporary space filled, the worker killed"
    if reason := no_mount(folder):
        return Promise(promise, attack, None, reason)
    (folder / "tmp").mkdir(exist_ok=True)
    with small_disk(folder / "tmp", "size=4m") as disk, serving(folder, bundle) as service:
        with contextlib.suppress(OSError), (disk / "filled").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        outcomes = _ask(service)
        worker = service.worker()
        worker.kill()
        wait_until(lambda: service.workers() not in ([], [worker]) and service.is_full(), "full service")
        outcomes += _ask(service)
        service.signal(signal.SIGTERM)
        status, _ = service.ended(PATIENCE)
    return Promise(
        promise, attack, set(outcomes) == {200} and status == 0, f"{tally(outcomes)}; it ended with status {status}"
    )


def _ask(service: Service) -> list[int | str]:
    """Return the status of each of REQUESTS."""
    with Client(service) as client:
        return [client.ask(*request).outcome for request in REQUESTS]


def _train(text: Path, out: Path, cache: Path) -> tuple[int, str]:
    """Return the exit status of a training and its stderr."""
    process = training(text, out, cache)
    _, errors = process.communicate()
    return process.returncode, errors


def _is_clear(status: int, errors: str, reason: str) -> bool:
    return status in (1, 2) and "Traceback" not in errors and reason in _end(errors)


def _end(output: str) -> str:
    """Return the last line."""
    return (output.strip().splitlines() or [""])[-1]


def _unsound(out: Path, known: set[str]) -> list[str]:
    """Return the faults of the run's bundle, where it has one. All bundles are to have the same, `known` weights."""
    try:
        known |= {weights(out)} if (out / "bundle").exists() else set()
    except BundleError as error:
        return [str(error)]
    return ["a bundle with other weights"] if len(known) > 1 else []


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs during the block."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def no_mount(folder: Path) -> str | None:
    """Return the reason why no tmpfs can be mounted here, or None."""
    try:
        with small_disk(folder / "disk", "size=1m"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no tmpfs can be mounted here, which needs root: {getattr(error, 'stderr', None) or error}"
