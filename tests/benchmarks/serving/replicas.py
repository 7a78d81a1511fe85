"""`python -m tests.benchmarks.serving.replicas`: three replicas behind nginx on this machine, under load.

One is killed, and all are replaced one after the other. nginx runs with serve/deploy/nginx.conf, but for its
addresses. wrk types texts, as in `tests.benchmarks.serving`; each of its sessions names itself. A row of the table is
a load. "Refused" are requests that got an error's status, "broken" those without an answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from tests.benchmarks.serving import text
from tests.benchmarks.serving.load import PATH, Case, Load, LoadError, run_wrk, wrk_version
from tests.harness.client import free_port
from tests.harness.nginx import find_nginx, nginx
from tests.harness.program import ProgramError
from tests.harness.service import Service
from tests.harness.waiting import PATIENCE

REPLICAS = 3
CONTEXT = 50  # words behind which a session types
CACHE_COUNTS = re.compile(r"^nextword_state_cache_(hits|misses)_total (\S+)", re.MULTILINE)
HEAD = (
    "| | requests/s | p50 ms | p99 ms | requests | refused | broken | cache hits |\n|---|---|---|---|---|---|---|---|"
)


class Row(NamedTuple):
    """The result of a load; `hits` is the share of texts whose beginning was in the replica's state cache."""

    name: str
    load: Load
    hits: float

    def __str__(self) -> str:
        load = self.load
        return (
            f"| {self.name} | {load.rate:,.0f} | {load.p50:.1f} | {load.p99:.0f} | {load.requests:,} "
            f"| {load.refused} | {load.broken} | {100 * self.hits:.0f} % |"
        )


class Replica(Service):
    """A service on a port of its own, which can end and be started again there."""

    def __init__(self, folder: Path, bundle: Path | None, *options: str) -> None:
        port = free_port()
        super().__init__(folder / str(port), bundle, *options, port=port)
        self.start_seconds = 0.0

    def restart(self) -> None:
        """Start it, for the first time or again, and wait until it can answer."""
        begin = time.monotonic()
        self.start()
        self.wait_until_ready()
        self.start_seconds = time.monotonic() - begin

    def roll(self) -> None:
        """Replace it as a deployment does: stop it, wait, and start it again. Raises ProgramError."""
        if status := self.stop(PATIENCE):
            raise ProgramError(f"a replica ended with status {status}: {self.output()}")
        self.restart()

    def cache_counts(self) -> dict[str, float]:
        """Return the hits and the misses of its state cache so far."""
        return {name: float(number) for name, number in CACHE_COUNTS.findall(self.get("/metrics").body.decode())}


@contextlib.contextmanager
def replicas(folder: Path, bundle: Path | None, *options: str) -> Iterator[list[Replica]]:
    """Start all replicas one after the other; kill them afterwards."""
    several = [Replica(folder, bundle, *options) for _ in range(REPLICAS)]
    with contextlib.ExitStack() as stack:
        for replica in several:
            replica.restart()
            stack.callback(replica.kill)
        yield several


def measure(
    name: str,
    url: str,
    several: list[Replica],
    seconds: int,
    connections: int,
    texts: Path,
    meanwhile: Callable[[], object] | None = None,
) -> Row:
    """Put `url` under load for so many seconds, and call `meanwhile` after an eighth of them.

    Raises:
        ProgramError: `meanwhile` had not returned before the end of the load.
    """
    before = [replica.cache_counts() for replica in several]
    end = time.monotonic() + seconds

    def act() -> bool:
        time.sleep(seconds / 8)
        if meanwhile:
            meanwhile()
        return time.monotonic() < end

    with ThreadPoolExecutor(1) as pool:
        in_time = pool.submit(act)
        load = run_wrk(url, texts, Case("typing", CONTEXT, connections), seconds, seed=len(name))
        if not in_time.result():
            raise ProgramError(f"{name}: the load ended first; give it more --seconds")
    after = [replica.cache_counts() for replica in several]
    counts = {
        kind: sum(max(0, new[kind] - old.get(kind, 0)) for new, old in zip(after, before))
        for kind in ("hits", "misses")
    }
    return Row(name, load, counts["hits"] / max(1, sum(counts.values())))


def rows(folder: Path, chosen: argparse.Namespace) -> Iterator[Row | str]:
    """Yield the rows of the table, and a sentence about the answers."""
    words = text.words()
    texts = folder / "texts"
    openings = text.openings(words, CONTEXT, chosen.connections)
    text.write(texts, openings, words)

    def load(
        name: str, url: str, several: list[Replica], meanwhile: Callable[[], object] | None = None, takes: float = 0
    ) -> Row:
        seconds = int(max(chosen.seconds, 2 * takes))
        return measure(name, url, several, seconds, chosen.connections, texts, meanwhile)

    with replicas(folder, chosen.bundle) as several:
        for replica in several:
            for opening in openings:  # the text before what is typed is read already
                ask(replica.url, opening)
        ports = [replica.port for replica in several]
        yield load("one replica, asked directly", several[0].url, several[:1])
        with nginx(folder, ports, sticky=False) as url:
            yield load("three behind nginx, in turn", url, several)
            yield same_answers(several[0].url, url, text.openings(words, CONTEXT, 20))
        with nginx(folder, ports) as url:
            yield load("three behind nginx, by session", url, several)

            def lose_one() -> None:
                several[0].kill()
                several[0].restart()

            def roll_all() -> None:
                for replica in several:
                    replica.roll()

            start = max(replica.start_seconds for replica in several)
            yield load("the same, one killed and started again", url, several, lose_one, 2 * start)
            yield load("the same, one after the other replaced", url, several, roll_all, 2 * start * REPLICAS)


def same_answers(direct: str, balanced: str, texts: list[str]) -> str:
    """Ask one replica for each text, and all in turn. Raises ProgramError where their answers differ."""
    different = sum(any(ask(balanced, each) != ask(direct, each) for _ in range(REPLICAS)) for each in texts)
    if different:
        raise ProgramError(f"{different} of {len(texts)} texts were answered differently by another replica")
    return f"{len(texts)} texts, each asked of one replica and then of all in turn: the same answers."


def ask(url: str, words: str) -> object:
    """Return the answer about a text."""
    request = Request(url + PATH, json.dumps({"text": words}).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.serving.replicas", description="Put three replicas behind nginx under load."
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model to serve (default: the English one)")
    parser.add_argument("--seconds", type=int, default=30, help="of each load (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="at once (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no replica is left
    try:
        wrk_version()
        if not find_nginx():
            raise LoadError("nginx is not installed: on Debian and Ubuntu, apt install nginx-light")
        return _print_table(chosen)
    except (LoadError, ProgramError) as error:
        print(f"replicas: {error}", file=sys.stderr)
        return 2


def _print_table(chosen: argparse.Namespace) -> int:
    """Print the table while it grows; return 1 where a request was lost, else 0."""
    lost = 0
    notes = []
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="nextword-replicas-") as folder:
        for row in rows(Path(folder), chosen):
            if isinstance(row, Row):
                print(row, flush=True)
                lost += row.load.refused + row.load.broken
            else:
                notes.append(row)
    print("\n" + "\n".join(notes))
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
