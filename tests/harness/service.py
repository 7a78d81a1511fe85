"""This service as its users start it: `nextword serve`, with the processes that it consists of."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.harness.any_server import Server
from tests.harness.client import Client, next_words
from tests.harness.program import ProgramError
from tests.harness.waiting import PATIENCE, wait_until

SERVE = (sys.executable, "-m", "nextword.serve")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


class Service(Server):
    """A service, started or not.

    Args:
        folder: for its log, its working directory and its temporary files; another service may have used it.
        bundle: the model to serve; None is the English one.
        options: more options of `nextword serve`.
        program: another command that takes the same options.
        port: 0 for any, which `announced` then reads from the log.
    """

    def __init__(
        self, folder: Path, bundle: Path | None, *options: str, program: Sequence[str] = SERVE, port: int = 0
    ) -> None:
        model = ("--bundle", str(bundle.resolve())) if bundle else ()
        super().__init__("the service", [*program, *model, *options], folder, port)

    def announced(self) -> str | None:
        """Return the address that its log names, or None where it has named none yet. Raises ProgramError."""
        self.check()
        lines = re.findall(r"""(?:^|"message": ")Serving .* on ([^\s"]+)""", self.output(), re.MULTILINE)
        if not lines:
            return None
        address = urlsplit(lines[-1])
        self.host, self.port = address.hostname or self.host, address.port or self.port
        return lines[-1]

    def wait_until_ready(self, seconds: float = PATIENCE) -> None:
        """Wait until its model can answer. Raises ProgramError or AssertionError where that does not happen."""
        wait_until(self.announced, "the line that says where it serves", seconds)
        super().wait_until_ready(seconds)

    def answers(self) -> bool:
        """Tell whether it is healthy; that counts in no metrics of questions and needs no key."""
        return self.get("/health").status == 200

    def is_full(self) -> bool:
        """Tell whether its worker is ready and answers a question."""
        with Client(self, PATIENCE) as client:
            return client.ask("GET", "/ready").status == 200 and client.ask(*next_words()).status == 200

    def main(self) -> psutil.Process:
        """Return its main process; where that is PID 1 of a namespace, it is the child of `unshare`."""
        process = psutil.Process(self.process.pid)
        return process.children()[0] if process.name() == "unshare" else process

    def children(self) -> list[psutil.Process]:
        """Return the children of its main process, the oldest first."""
        return sorted(self.main().children(), key=psutil.Process.create_time)

    def workers(self) -> list[psutil.Process]:
        """Return the processes that compute, the oldest first."""
        return [child for child in self.children() if "spawn_main" in _command(child)]

    def worker(self) -> psutil.Process:
        """Return its oldest worker."""
        return self.workers()[0]

    def http(self) -> psutil.Process:
        """Return the process that speaks HTTP: the youngest that was forked from the main one."""
        command = _command(self.main())
        return [child for child in self.children() if _command(child) == command][-1]

    def others(self) -> list[psutil.Process]:
        """Return the children that neither compute nor speak HTTP."""
        known = {*self.workers(), self.http()}
        return [child for child in self.children() if child not in known]

    def signal(self, number: int, to_group: bool = False) -> None:
        """Send a signal to its main process, or to all of its process group."""
        if to_group:
            os.killpg(self.process.pid, number)
        else:
            self.main().send_signal(number)

    def stop(self, seconds: float = 20) -> int:
        """Send SIGTERM, wait, and return the exit status. Raises ProgramError where it does not end in time."""
        if self.process.poll() is None:
            with contextlib.suppress(psutil.Error, IndexError):
                self.signal(signal.SIGTERM)
        status, _ = self.ended(seconds)
        self.kill()
        if status is None:
            raise ProgramError(f"it did not stop within {seconds:g} seconds: {self.output()}")
        return status

    def left_over(self, seconds: float = 2, files: bool = True) -> list[str]:
        """Return what there is of an ended service after up to `seconds`: processes, a listener, temporary files."""

        def remains() -> list[str]:
            listener = ["something that listens at its port"] if self.listens() else []
            return [*map(str, self.group()), *listener, *(file.name for file in self.temporary.iterdir() if files)]

        with contextlib.suppress(AssertionError):
            wait_until(lambda: not remains(), "nothing left", seconds)
        return remains()

    def faults(self) -> list[str]:
        """Return the faults of its own that its log has."""
        return re.findall(r"Traceback|\w+ at a request|ERROR.*|CRITICAL.*", self.output())


@contextlib.contextmanager
def started(folder: Path, bundle: Path | None, *options: str, program: Sequence[str] = SERVE) -> Iterator[Service]:
    """Start a service, without waiting for it. Afterwards it is stopped, or killed where the block raised an error."""
    service = Service(folder, bundle, *options, program=program)
    service.start()
    try:
        yield service
        service.stop()
    finally:
        service.kill()


@contextlib.contextmanager
def serving(folder: Path, bundle: Path | None, *options: str, program: Sequence[str] = SERVE) -> Iterator[Service]:
    """Start a service and wait until it can answer."""
    with started(folder, bundle, *options, program=program) as service:
        service.wait_until_ready()
        yield service
