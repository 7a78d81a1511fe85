"""A real service to be tortured: `python -m nextword.serve` in a process group and a temporary folder of its own."""
from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.torture.traffic import Client, next_words

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 180  # seconds, for a machine that is busy with other things
SERVE = (sys.executable, "-m", "nextword.serve")


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE):
    """Asks again and again until the condition holds, and returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} seconds: {what}")
        time.sleep(0.02)
    return value


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


class Service:
    """A service that runs; `temporary` is where it may leave files, `log` where its output goes."""

    def __init__(self, process: subprocess.Popen, temporary: Path, log: Path, workers: int):
        self._process, self.temporary, self.log, self._workers = process, temporary, log, workers
        self.host, self.port = "127.0.0.1", 0

    def main(self) -> psutil.Process:
        """Returns its main process; where it is PID 1 of a namespace, the child of what made that."""
        process = psutil.Process(self._process.pid)
        return process.children()[0] if process.name() == "unshare" else process

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.main().children() if "spawn_main" in _command(child)]

    def http(self) -> psutil.Process:
        """Returns the process that speaks HTTP: the youngest that was forked from the main one."""
        main = self.main()
        return max((child for child in main.children() if _command(child) == _command(main)), key=psutil.Process.create_time)

    def others(self) -> list[psutil.Process]:
        """Returns the children that neither compute nor speak HTTP."""
        known = {*self.workers(), self.http()}
        return [child for child in self.main().children() if child not in known]

    def group(self) -> list[psutil.Process]:
        """Returns all its processes; of ended ones those whose parent, one of them, has not noticed it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(process.pid) == self._process.pid:
                    found.append(process)
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE or process.parent() in found]

    def memory(self) -> int:
        """Returns the bytes of memory that its processes take, what they share counted once."""
        total = 0
        for process in self.group():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total

    def is_full(self) -> bool:
        """Tells whether all workers are ready and a question is answered."""
        with Client(self, timeout=PATIENCE) as client:
            ready = client.ask("GET", "/ready")
            return ready.status == 200 and ready.json["workers"] == self._workers and client.ask(*next_words()).status == 200

    def listens(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=PATIENCE).close()
        except OSError:
            return False
        return True

    def signal(self, number: int, to_group: bool = False) -> None:
        if to_group:
            os.killpg(self._process.pid, number)
        else:
            self.main().send_signal(number)

    def ended(self, seconds: float) -> tuple[int | None, float]:
        """Returns its exit status, or None where it has not ended within `seconds`, and how long that took."""
        start = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll(), time.monotonic() - start

    def left_over(self, seconds: float = 2, files: bool = True) -> list[str]:
        """Returns what is there of an ended service: processes, who listens at its port, temporary files."""

        def found() -> list[str]:
            listens = ["something that listens at its port"] if self.listens() else []
            return [*map(str, self.group()), *listens, *(file.name for file in self.temporary.iterdir() if files)]

        with contextlib.suppress(AssertionError):
            wait_until(lambda: not found(), "nothing left", seconds)
        return found()

    def faults(self) -> list[str]:
        """Returns what its log says of faults of its own."""
        return re.findall(r"Traceback|\w+ at a request|ERROR.*|CRITICAL.*", self.log.read_text())

    def announced(self) -> bool:
        said = self.log.read_text()
        if self._process.poll() is not None:
            raise AssertionError(f"the service ended with {self._process.returncode}: {said}")
        if found := re.search(r"^Serving .* on \S+:(\d+)$", said, re.MULTILINE):
            self.port = int(found[1])
        return bool(found)


@contextlib.contextmanager
def serving(
    folder: Path,
    bundle: Path | None,
    *options: str,
    workers: int = 1,
    program: Sequence[str] = SERVE,
) -> Iterator[Service]:
    """Starts a service and waits until it is in full service; nothing of it is left afterwards.

    Args:
        folder: for its log and its temporary files; it may be used again.
        bundle: what to serve; None is the English one.
        options: more of `python -m nextword.serve`.
        workers: how many processes compute.
        program: what to start, if not `python -m nextword.serve`.
    """
    temporary, log = folder / "temporary", folder / "log"
    temporary.mkdir(parents=True, exist_ok=True)
    # Of the log only faults are wanted.
    options = (*(("--bundle", str(bundle)) if bundle else ()), "--workers", str(workers), "--access-log", "off", *options)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*program, *options, "--port", "0"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    service = Service(process, temporary, log, workers)
    try:
        wait_until(service.announced, "the line that says where it serves")
        wait_until(service.is_full, "full service")
        yield service
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
