"""A redis-server of its own, on a socket in a folder, that saves each change at once."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.harness.waiting import wait_until


def find_redis() -> str | None:
    """Return the path of redis-server, or None where it or the Python package is not installed."""
    return shutil.which("redis-server") if importlib.util.find_spec("redis") else None


class Redis:
    """A server, started; use it with `with`.

    Args:
        folder: for its socket and its file.
        options: more options of redis-server.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, *options: str) -> None:
        self._socket, self._folder, self._options = folder / "redis.sock", folder, options
        self.address = f"unix://{self._socket}"
        self.start()

    def start(self) -> None:
        """Start it, again after `kill`, and wait until it listens."""
        always = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = subprocess.Popen(
            [str(find_redis()), "--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder), *always,
             *self._options],
            stdout=subprocess.DEVNULL, start_new_session=True,
        )
        wait_until(self._listens, "redis")

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._socket))
            client.sendall(b"PING\r\n")
            return client.recv(100).startswith(b"+PONG")
        return False

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self.process.kill()
        self.process.wait()
        self._socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """Let it answer nothing, until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Redis:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
