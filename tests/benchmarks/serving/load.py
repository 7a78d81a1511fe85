"""A load on a server, made by wrk."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

PATH = "/v1/next-words"
SESSION = 10  # words typed behind an opening
_SCRIPT = Path(__file__).with_name("load.lua")


class LoadError(Exception):
    """wrk is missing, or it failed."""


class Case(NamedTuple):
    """A load: `kind` is a key of `report.TITLES`, `words` the length of the contexts (of a session's opening)."""

    kind: str
    words: int
    connections: int


class Load(NamedTuple):
    """The result of wrk.

    requests    answered, `refused` of them with an error's status
    p50, p99    percentiles of the latency in ms
    broken      requests without an answer
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int
    broken: int

    @property
    def rate(self) -> float:
        """Answers a second, refusals not counted."""
        return (self.requests - self.refused) / self.seconds


def wrk_version() -> str:
    """Return wrk's version. Raises LoadError where it is not installed."""
    if not shutil.which("wrk"):
        raise LoadError("wrk is not installed, and it makes the load: on Debian and Ubuntu, apt install wrk")
    output = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout
    return " ".join(output.split()[1:2])


def run_wrk(url: str, texts: Path, case: Case, seconds: int, seed: int) -> Load:
    """Ask the server at `url` for so many seconds. Another seed takes other words. Raises LoadError."""
    count = str(case.connections)
    script = [str(texts), case.kind, str(case.words), count, str(SESSION), str(seed)]
    command = ["wrk", "-t", "1", "-c", count, "-d", f"{seconds}s", "--timeout", "60s", "-s", str(_SCRIPT)]
    done = subprocess.run([*command, url + PATH, "--", *script], capture_output=True, text=True)
    return parse(done.stdout, done.stderr)


def parse(output: str, errors: str = "") -> Load:
    """Return the result that load.lua printed. Raises LoadError where there is none."""
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return Load(**json.loads(line[len("RESULT ") :]))
    last = (errors.strip() or output.strip() or "nothing").splitlines()[-1]
    raise LoadError(f"wrk gave no result; its last line: {last}")
