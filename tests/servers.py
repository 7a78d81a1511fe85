"""Real servers for the tests: `python -m nextword.serve` on a free loopback port, in a process group of its own."""
from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parent.parent
PATIENCE = 60  # seconds, for a machine that is busy with other things


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE):
    """Asks again and again until the condition holds, and returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} seconds: {what}"
        time.sleep(0.02)
    return value


@dataclass
class Server:
    """A running service; `folder` is its working directory, `log` where its output goes."""

    process: subprocess.Popen
    folder: Path
    log: Path
    url: str = ""

    def group(self) -> list[psutil.Process]:
        """Returns the processes of its group that are alive, zombies aside."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def children(self) -> list[psutil.Process]:
        """Returns its child processes, the oldest first."""
        return sorted(psutil.Process(self.process.pid).children(), key=psutil.Process.create_time)

    def worker(self) -> psutil.Process:
        return next(child for child in self.children() if "spawn_main" in " ".join(child.cmdline()))

    def http(self) -> psutil.Process:
        """Returns the process that speaks HTTP: the younger of the two forked ones."""
        return [child for child in self.children() if child.cmdline() == self.process.args][-1]

    def announced(self) -> str | None:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()}"
        found = re.search(r"^Serving .* on (\S+)$", self.log.read_text(), re.MULTILINE)
        return found and found[1]


@contextlib.contextmanager
def started(folder: Path, bundle: Path, *options: str) -> Iterator[Server]:
    """Starts a service, which need not be ready yet; nothing of it is left afterwards."""
    log = folder / "log"
    work = folder / "work"
    work.mkdir()
    command = [sys.executable, "-m", "nextword.serve", "--bundle", str(bundle), "--port", "0", *options]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(process, work, log)
    try:
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def serving(folder: Path, bundle: Path, *options: str) -> Iterator[Server]:
    """Starts a service and waits until its /health says that it can answer."""
    # A deadline that a busy machine meets too.
    with started(folder, bundle, "--deadline", "30", *options) as server:
        server.url = wait_until(server.announced, "the line that says where it serves")
        wait_until(lambda: httpx.get(f"{server.url}/health", timeout=PATIENCE).status_code == 200, "health")
        yield server


@pytest.fixture(scope="session")
def server(tmp_path_factory, tiny_bundle) -> Iterator[Server]:
    """One service for all tests that only ask it."""
    with serving(tmp_path_factory.mktemp("server"), tiny_bundle) as running:
        yield running


@pytest.fixture(scope="session")
def http(server) -> Iterator[httpx.Client]:
    """Speaks to that service."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        yield client
