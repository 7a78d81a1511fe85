"""`python -m tests.benchmarks.serving.loading`: what a start costs: the time to load the bundle, and the memory of a worker.

Needs Linux, but not wrk.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.serving import text
from tests.benchmarks.serving.machine import busy_cores
from tests.benchmarks.serving.peers import PEERS, SERVICE
from tests.benchmarks.serving.processes import ServerError, started

STARTS = 5
LENGTH = 50  # words of a text that is asked about
PEOPLE, LONG, TYPED = 64, 500, 100  # who type so many words behind so many
QUIET = 10  # seconds
_LOAD = """
import json, sys, time, torch
from nextword.lm import load
torch.set_num_threads(1)
start = time.perf_counter(), time.process_time()
load(sys.argv[1] if sys.argv[1:] else None)
print(json.dumps([time.perf_counter() - start[0], time.process_time() - start[1]]))
"""


def seconds_to_load(bundle: Path | None) -> tuple[float, float]:
    """From torch imported to a model that can be asked, in a new process: seconds that pass, and of the processor."""
    command = [sys.executable, "-c", _LOAD, *([str(bundle)] if bundle else [])]
    return tuple(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))


class Memory(NamedTuple):
    """Bytes of resident memory (RSS) of a serving worker: when it is ready, after texts that were asked about one after the
    other, the median and the most while many people type behind long texts, and some seconds after they have stopped."""

    ready: int
    later: int
    typing: float
    most: int
    quiet: int


def memory_of_a_worker(bundle: Path | None, questions: int) -> Memory:
    service = next(peer for peer in PEERS if peer.name == SERVICE)
    with tempfile.TemporaryDirectory(prefix="nextword-bench-") as name:
        with started(SERVICE, service.command(bundle, None, Path(name)), Path(name)) as server:
            server.wait_until_ready()
            ready = server.largest()
            for opening in text.openings(text.words(), LENGTH, questions):
                server.ask(opening)
            later = server.largest()
            openings = text.openings(text.words(), LONG, PEOPLE)
            for opening in openings:
                server.ask(opening)
            with ThreadPoolExecutor(PEOPLE) as people:
                typing = []
                for count in range(1, TYPED + 1):
                    list(people.map(server.ask, (opening + " word" * count for opening in openings)))
                    typing.append(server.largest())
            time.sleep(QUIET)
            return Memory(ready, later, statistics.median(typing), max(typing), server.largest())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving.loading", description="What a start of the service costs.")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model (default: the English one)")
    parser.add_argument("--questions", type=int, default=300, help=f"texts of {LENGTH} words, before memory is looked at again "
                        "(default: 300)")
    asked = parser.parse_args(arguments)
    if (busy := busy_cores()) > 0.2:
        print(f"{busy:.1f} cores are busy with other things: seconds that pass mean little", file=sys.stderr)
    try:
        passed, used = map(statistics.median, zip(*(seconds_to_load(asked.bundle) for _ in range(STARTS))))
        size = memory_of_a_worker(asked.bundle, asked.questions)
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"loading: {error}", file=sys.stderr)
        return 2
    print(f"from torch imported to a model that can be asked: {passed:.2f} s, {used:.2f} s of the processor "
          f"(median of {STARTS})")
    ready, later, typing, most, quiet = (f"{bytes_ / 1e6:.0f} MB" for bytes_ in size)
    print(f"resident memory (RSS) of a worker: {ready} when it is ready, {later} after {asked.questions} texts of {LENGTH} words, "
          f"{typing} in the median and {most} at most while {PEOPLE} people type behind {LONG} words, {quiet} when they have "
          f"been quiet for {QUIET} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
