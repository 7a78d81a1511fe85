"""nginx in front of services, with the nginx.conf of serve/deploy but for its addresses."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness import ROOT
from tests.harness.client import free_port
from tests.harness.program import ProgramError
from tests.harness.waiting import wait_until

CONFIGURATION = ROOT / "serve" / "deploy" / "nginx.conf"


def find_nginx() -> str | None:
    """Return the path of nginx, or None where it is not installed."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


@contextlib.contextmanager
def nginx(folder: Path, ports: Sequence[int], sticky: bool = True, limited: bool = False) -> Iterator[str]:
    """Start nginx in front of the services at `ports`, and yield its URL.

    sticky: a session's questions go to one service, as nginx.conf has it; otherwise to each in turn.
    limited: one address may ask as often as nginx.conf has it; otherwise without limit.
    """
    port = free_port()
    own = folder / f"nginx-{port}"
    own.mkdir()
    for place in (folder, own):
        place.chmod(0o755)  # where root starts nginx, its workers are another user
    configuration = _configuration(own, port, ports, sticky, limited)
    command = [str(find_nginx()), "-e", "stderr", "-p", str(own), "-c", str(configuration)]
    with (own / "log").open("w") as log:
        process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), "nginx")
        if process.poll() is not None:
            raise ProgramError(f"nginx ended: {(own / 'log').read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _configuration(folder: Path, port: int, ports: Sequence[int], sticky: bool, limited: bool) -> Path:
    text = CONFIGURATION.read_text()
    for number, replica in enumerate(ports, 1):
        text = text.replace(f"nextword-{number}:8000", f"127.0.0.1:{replica}")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/tmp/nginx", f"{folder}/nginx")
    text = text.replace("/etc/nginx/tls", str(folder.parent / "tls"))
    if not limited:
        text = re.sub(r"^ *limit_(req|conn) .*\n", "", text, flags=re.MULTILINE)
    if not sticky:
        text = re.sub(r"^ *hash .*\n", "", text, flags=re.MULTILINE)
    (folder / "nginx.conf").write_text(text)
    return folder / "nginx.conf"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False
