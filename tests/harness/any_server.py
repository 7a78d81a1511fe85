"""A program that answers `POST /v1/next-words` at a port of its own: this service, or another one to compare with."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness.client import Answer, Client, connect, free_port, next_words
from tests.harness.program import Program, ProgramError
from tests.harness.waiting import PATIENCE


class Server(Program):
    """A server that gets its port with `--port`."""

    host = "127.0.0.1"

    def __init__(self, name: str, command: Sequence[str], folder: Path, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        super().__init__(name, [*command, "--port", str(self.port)], folder)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def get(self, path: str, timeout: float = PATIENCE) -> Answer:
        with Client(self, timeout) as client:
            return client.ask("GET", path)

    def ask(self, text: str, timeout: float = PATIENCE, **fields: object) -> Answer:
        """Ask for the next words of a text."""
        with Client(self, timeout) as client:
            return client.ask(*next_words(text, **fields))

    def listens(self) -> bool:
        """Tell whether a connection to its port is accepted."""
        try:
            connect(self, PATIENCE).close()
        except OSError:
            return False
        return True

    def wait_until_ready(self, seconds: float = PATIENCE) -> None:
        """Wait for its first answer. Raises ProgramError where it ends, or takes longer than `seconds`."""
        end = time.monotonic() + seconds
        while True:
            self.check()
            if self.answers():
                return
            if time.monotonic() > end:
                raise ProgramError(f"{self.name} did not answer within {seconds:g} seconds")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Tell whether it answers a question now."""
        return self.ask("I went to the").status == 200


@contextlib.contextmanager
def running(name: str, command: Sequence[str], folder: Path) -> Iterator[Server]:
    """Start `command --port N`, without waiting for it; kill it afterwards."""
    server = Server(name, command, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
