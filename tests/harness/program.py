"""A command in a process group of its own: its log, its processes, the processor time and the memory that they use."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.harness import ROOT

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds; processor time is counted in these


class ProgramError(Exception):
    """A program did not start, or it ended too early."""


class Program:
    """A command. Its group is killed by `kill`, and also when this process ends, whatever ends it.

    Args:
        name: for error messages.
        command: the program and its arguments.
        folder: gets the log, and the folders `work` (the working directory) and `tmp` (for TMPDIR).
    """

    process: subprocess.Popen[bytes]
    _guard: subprocess.Popen[bytes]

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name, self.command = name, list(command)
        # Short names, as a socket in a temporary folder may have a path of 107 bytes at most.
        self.folder, self.temporary, self.log = folder / "work", folder / "tmp", folder / "log"
        self.log.unlink(missing_ok=True)

    def start(self) -> None:
        """Start it, and do not wait. The log of an earlier start is kept."""
        for place in (self.folder, self.temporary):
            place.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            "TOKENIZERS_PARALLELISM": "false",
        }
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # The guard reads from a pipe that only this process can write to, so its read ends when this process does.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read _; kill -s KILL -- -"$0"', str(self.process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Kill all its processes at once, where there are any."""
        if self._guard.returncode is not None:  # done before
            return
        self._guard.kill()
        self._guard.communicate()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def check(self) -> None:
        """Raise ProgramError where it has ended."""
        if self.process.poll() is not None:
            lines = self.output().strip().splitlines()
            last = f"; its last words: {lines[-1]}" if lines else ""
            raise ProgramError(f"{self.name} ended with status {self.process.returncode}{last}")

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(errors="replace")

    def ended(self, seconds: float) -> tuple[int | None, float]:
        """Wait up to `seconds` for its end; return its exit status, None where it runs on, and the seconds waited."""
        start = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll(), time.monotonic() - start

    def group(self) -> list[psutil.Process]:
        """Return its processes, and zombies whose parent is one of them."""
        members: dict[int, psutil.Process] = {}
        zombies: list[tuple[psutil.Process, int]] = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(process.pid) == self.process.pid:
                    if process.status() == psutil.STATUS_ZOMBIE:
                        zombies.append((process, process.ppid()))
                    else:
                        members[process.pid] = process
        return [*members.values(), *(process for process, parent in zombies if parent in members)]

    def cpu_seconds(self) -> float:
        """Return the user and system time of its living processes so far."""
        return sum(times.user + times.system for times in self._of_each(psutil.Process.cpu_times))

    def memory(self) -> int:
        """Return the bytes of memory of its processes, shared memory counted once (their summed PSS)."""
        return sum(full.pss for full in self._of_each(psutil.Process.memory_full_info))

    def largest_memory(self) -> int:
        """Return the bytes of resident memory (RSS) of its largest process."""
        return max(info.rss for info in self._of_each(psutil.Process.memory_info))

    def resident_memory(self) -> int:
        """Return the bytes of resident memory (RSS) of its processes, shared memory counted for each."""
        return sum(info.rss for info in self._of_each(psutil.Process.memory_info))

    def open_files(self) -> int:
        """Return the number of file handles of its processes."""
        return sum(self._of_each(psutil.Process.num_fds))

    def settle(self, seconds: float = 30) -> None:
        """Wait until it computes nothing any more, but not longer than `seconds`."""
        end = time.monotonic() + seconds
        now, before = self.cpu_seconds(), -1.0
        while now - before > 1.5 * TICK and time.monotonic() < end:
            time.sleep(0.25)
            before, now = now, self.cpu_seconds()

    def _of_each(self, function: Callable) -> list:
        """Return the function's values for its processes; one that ends meanwhile has none."""
        values = []
        for process in self.group():
            with contextlib.suppress(psutil.Error):
                values.append(function(process))
        return values
