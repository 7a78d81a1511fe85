"""`python -m tests.benchmarks.serving.replicas`: nginx in front of three replicas on this machine, one killed and all rolled under load.

nginx runs with the nginx.conf of this folder, but for its addresses. wrk types texts, as in `tests.benchmarks.serving`; each session of
it names itself. A row of the table is a load. "Refused" are requests that got an error's status, "broken" those without an answer.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.serving import text
from tests.benchmarks.serving.load import PATH, Case, Load, LoadError, find_wrk, run_wrk

CONFIGURATION = Path(__file__).parents[3] / "serve" / "deploy" / "nginx.conf"
REPLICAS = 3
CONTEXT = 50  # words behind which a session types
PATIENCE = 180  # seconds, for a machine that is busy with other things
HITS = re.compile(r"^nextword_state_cache_(hits|misses)_total (\S+)", re.MULTILINE)


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


class Row(NamedTuple):
    """What a load gave; `known` is the share of texts of which the replica that was asked knew a beginning."""

    what: str
    load: Load
    known: float

    def __str__(self) -> str:
        load = self.load
        return (f"| {self.what} | {load.rate:,.0f} | {load.p50:.1f} | {load.p99:.0f} | {load.requests:,} "
                f"| {load.refused} | {load.broken} | {100 * self.known:.0f} % |")


class Replica:
    """A service on a port of its own, which can end and be started again."""

    def __init__(self, folder: Path, bundle: Path | None, *options: str):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"{self.port}.log"
        self._command = [sys.executable, "-m", "nextword.serve", "--port", str(self.port), *options]
        self._command += ["--bundle", str(bundle)] if bundle else []

    def start(self) -> None:
        begun = time.monotonic()
        with self._log.open("a") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, start_new_session=True)
        wait_until(lambda: self._process.poll() is not None or self._answers(), "an answer of a replica")
        if self._process.poll() is not None:
            raise AssertionError(f"a replica ended with status {self._process.returncode}: {self._log.read_text()}")
        self.start_seconds = time.monotonic() - begun

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(get(self.url + "/health"))
        return False

    def known(self) -> dict[str, float]:
        return {name: float(number) for name, number in HITS.findall(get(self.url + "/metrics").decode())}

    def roll(self) -> None:
        """Replaces it as a deployment does: tells it to stop, waits, and starts it again."""
        self._process.terminate()
        if self._process.wait(PATIENCE) != 0:
            raise AssertionError(f"a replica ended with status {self._process.returncode}: {self._log.read_text()}")
        self.start()

    def kill(self) -> None:
        """Ends all its processes at once, as the loss of a machine does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def replicas(folder: Path, bundle: Path | None, *options: str) -> Iterator[list[Replica]]:
    """Starts them all; none is left."""
    several = [Replica(folder, bundle, *options) for _ in range(REPLICAS)]
    with contextlib.ExitStack() as stack:
        for replica in several:
            stack.callback(lambda replica=replica: hasattr(replica, "_process") and replica.kill())
            replica.start()
        yield several


@contextlib.contextmanager
def nginx(folder: Path, ports: list[int], sticky: bool = True) -> Iterator[str]:
    """Starts nginx in front of the services at `ports`, and gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    own = folder / f"nginx-{port}"
    own.mkdir()
    own.chmod(0o755)  # nginx's workers are another user where it is started by root
    folder.chmod(0o755)
    command = [find_nginx(), "-e", "stderr", "-p", str(own), "-c", str(_configured(own, port, ports, sticky))]
    with (own / "log").open("w") as log:
        process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), "nginx")
        if process.poll() is not None:
            raise AssertionError(f"nginx ended: {(own / 'log').read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _configured(folder: Path, port: int, ports: list[int], sticky: bool) -> Path:
    written = CONFIGURATION.read_text()
    for number, replica in enumerate(ports, 1):
        written = written.replace(f"nextword-{number}:8000", f"127.0.0.1:{replica}")
    written = written.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/tmp/nginx", f"{folder}/nginx")
    if not sticky:
        written = re.sub(r"^ *hash .*\n", "", written, flags=re.MULTILINE)
    (folder / "nginx.conf").write_text(written)
    return folder / "nginx.conf"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def measure(what: str, url: str, several: list[Replica], asked: argparse.Namespace, texts: Path,
            meanwhile: Callable[[], object] = lambda: None, takes: float = 0) -> Row:
    """Puts `url` under load; some time later does what is to be done meanwhile, which `takes` so many seconds.

    Raises:
        AssertionError: that was not done before the end of the load.
    """
    before = [replica.known() for replica in several]
    seconds = int(max(asked.seconds, 2 * takes))
    end = time.monotonic() + seconds

    def do() -> bool:
        time.sleep(seconds / 8)
        meanwhile()
        return time.monotonic() < end

    with ThreadPoolExecutor(1) as aside:
        done = aside.submit(do)
        load = run_wrk(url, texts, Case("typing", CONTEXT, asked.connections), seconds, seed=len(what))
        if not done.result():
            raise AssertionError(f"{what}: that took longer than the load of {seconds} seconds")
    after = [replica.known() for replica in several]
    grown = {name: sum(max(0, now[name] - then.get(name, 0)) for now, then in zip(after, before)) for name in after[0]}
    return Row(what, load, grown["hits"] / max(1, sum(grown.values())))


def rows(folder: Path, asked: argparse.Namespace) -> Iterator[Row | str]:
    """The rows of the table, and a sentence about the answers."""
    words = text.words()
    texts = folder / "texts"
    text.write(texts, openings := text.openings(words, CONTEXT, asked.connections), words)
    with replicas(folder, asked.bundle) as several:
        for replica in several:
            for opening in openings:  # the text before what is typed is read already
                ask(replica.url, opening)
        ports = [replica.port for replica in several]
        yield measure("one replica, asked directly", several[0].url, several[:1], asked, texts)
        with nginx(folder, ports, sticky=False) as url:
            yield measure("three behind nginx, in turn", url, several, asked, texts)
            yield same_answers(several[0].url, url, text.openings(words, CONTEXT, 20))
        with nginx(folder, ports) as url:
            yield measure("three behind nginx, by session", url, several, asked, texts)

            def lose_one() -> None:
                several[0].kill()
                several[0].start()

            def roll_all() -> None:
                for replica in several:
                    replica.roll()

            start = max(replica.start_seconds for replica in several)
            yield measure("the same, one killed and started again", url, several, asked, texts, lose_one, 2 * start)
            yield measure("the same, one after the other replaced", url, several, asked, texts, roll_all, 2 * start * REPLICAS)


def same_answers(direct: str, balanced: str, texts: list[str]) -> str:
    """Asks each text of one replica, and of all in turn."""
    different = sum(any(ask(balanced, each) != ask(direct, each) for _ in range(REPLICAS)) for each in texts)
    if different:
        raise AssertionError(f"{different} of {len(texts)} texts were answered differently by another replica")
    return f"{len(texts)} texts, each asked of one replica and then of all in turn: the same answers."


def ask(url: str, written: str) -> dict:
    request = urllib.request.Request(url + PATH, json.dumps({"text": written}).encode(), {"content-type": "application/json"})
    return json.loads(get(request))


def get(request: str | urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE} seconds: {what}")
        time.sleep(0.05)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving.replicas", description=__doc__.partition(": ")[2])
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model to serve (default: the English one)")
    parser.add_argument("--seconds", type=int, default=30, help="of each load (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="at once (default: %(default)s)")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing of it is left
    try:
        find_wrk()
        if not find_nginx():
            raise LoadError("nginx is not installed: on Debian and Ubuntu, apt install nginx-light")
    except LoadError as error:
        print(f"replicas: {error}", file=sys.stderr)
        return 2
    lost = 0
    print("| | requests/s | p50 ms | p99 ms | requests | refused | broken | beginning known |\n|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="nextword-replicas-") as folder:
        said = []
        for row in rows(Path(folder), asked):
            if isinstance(row, Row):
                print(row, flush=True)
                lost += row.load.refused + row.load.broken
            else:
                said.append(row)
    print("\n" + "\n".join(said))
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
