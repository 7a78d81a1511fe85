"""Servers under test: each a process group of its own that is gone when this program is, and what it costs."""
from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.serving.load import PATH

START_SECONDS = 180
_TICK = os.sysconf("SC_CLK_TCK")
# The group ends with its server, and also with the pipe that this program holds, however this program ends.
_GUARD = '{ "$@" </dev/null; kill -KILL 0; } & read _; kill -KILL 0'


class ServerError(Exception):
    """A server did not start, or ended."""


class Server:
    """A running server; the shell that leads its group is not counted in what it costs."""

    def __init__(self, name: str, process: subprocess.Popen, log: Path, url: str):
        self.name, self.url = name, url
        self._process, self._log = process, log

    def ask(self, text: str, timeout: float = 60) -> None:
        """Has it answer one question."""
        body = json.dumps({"text": text, "k": 5}).encode()
        request = urllib.request.Request(self.url + PATH, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            response.read()

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Returns when it has answered. Raises ServerError where it ends or takes too long."""
        end = time.monotonic() + seconds
        while True:
            self.check()
            with contextlib.suppress(OSError):  # refused, or any status but 200
                return self.ask("I went to the")
            if time.monotonic() > end:
                raise ServerError(f"{self.name} did not answer within {seconds:.0f} seconds{self._last_words()}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raises ServerError where it has ended."""
        if self._process.poll() is not None:
            raise ServerError(f"{self.name} ended{self._last_words()}")

    def _last_words(self) -> str:
        said = self._log.read_text(errors="replace").strip().splitlines()
        return f"; its last words: {said[-1]}" if said else ""

    def cpu_seconds(self) -> float:
        """User and system time of its processes so far, to 1/100 s for each."""
        return sum(int(fields[11]) + int(fields[12]) for _, fields in self._processes()) / _TICK

    def memory(self) -> int:
        """Bytes of memory: the proportional set sizes (PSS) of its processes, which share what they share."""
        return sum(self._sizes("Pss"))

    def largest(self) -> int:
        """Bytes of resident memory (RSS) of its largest process, a worker."""
        return max(self._sizes("Rss"))

    def _sizes(self, kind: str) -> Iterator[int]:
        for pid, _ in self._processes():
            with contextlib.suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                yield int(re.search(rf"^{kind}:\s+(\d+) kB", rollup, re.MULTILINE)[1]) * 1024

    def settle(self, seconds: float = 30) -> None:
        """Waits until it no longer computes what nobody waits for any more, or `seconds` have passed."""
        end = time.monotonic() + seconds
        now = self.cpu_seconds()
        before = -1.0
        while now - before > 1.5 / _TICK and time.monotonic() < end:
            time.sleep(0.25)
            before, now = now, self.cpu_seconds()

    def _processes(self) -> Iterator[tuple[int, list[str]]]:
        """Yields each process's id and the fields of its /proc/PID/stat from the third on."""
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and int(entry) != self._process.pid:
                with contextlib.suppress(OSError):
                    fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) == self._process.pid:
                        yield int(entry), fields


@contextlib.contextmanager
def started(name: str, command: list[str], folder: Path) -> Iterator[Server]:
    """Starts `command --port N`, which need not be ready yet; nothing of it is left afterwards.

    folder: for its log and its temporary files.
    """
    port = _free_port()
    log = folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", *command, "--port", str(port)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(folder), "TOKENIZERS_PARALLELISM": "false"},
            start_new_session=True,
        )
    try:
        yield Server(name, process, log, f"http://127.0.0.1:{port}")
    finally:
        process.stdin.close()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
