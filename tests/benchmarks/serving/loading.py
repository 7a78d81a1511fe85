"""`python -m tests.benchmarks.serving.loading`: the time to load a bundle, and a worker's memory. Needs Linux."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.serving import text
from tests.benchmarks.serving.__main__ import busy_cores
from tests.harness.program import ProgramError
from tests.harness.service import Service, serving

STARTS = 5
LENGTH = 50  # words of a text
PEOPLE, LONG, TYPED = 64, 500, 100  # clients, words of the text of each, words that each types behind it
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
    """Return the seconds that pass, and those of the processor, from `import torch` done to a model loaded."""
    command = [sys.executable, "-c", _LOAD, *([str(bundle)] if bundle else [])]
    passed, used = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    return passed, used


class Memory(NamedTuple):
    """Bytes of resident memory (RSS) of a worker.

    ready   when it is ready
    later   after texts that were asked about one after the other
    typing  the median while many clients type behind long texts, and the most, `most`
    quiet   some seconds after they have stopped
    """

    ready: int
    later: int
    typing: float
    most: int
    quiet: int


def memory_of_a_worker(bundle: Path | None, questions: int) -> Memory:
    """Measure a service: alone, after so many questions, and under load. Raises ProgramError."""
    with tempfile.TemporaryDirectory(prefix="nextword-bench-") as name, serving(Path(name), bundle) as server:
        ready = server.largest_memory()
        for opening in text.openings(text.words(), LENGTH, questions):
            _ask(server, opening)
        later = server.largest_memory()
        openings = text.openings(text.words(), LONG, PEOPLE)
        for opening in openings:
            _ask(server, opening)
        with ThreadPoolExecutor(PEOPLE) as people:
            typing = []
            for count in range(1, TYPED + 1):
                list(people.map(partial(_ask, server), (opening + " word" * count for opening in openings)))
                typing.append(server.largest_memory())
        time.sleep(QUIET)
        return Memory(ready, later, statistics.median(typing), max(typing), server.largest_memory())


def _ask(server: Service, opening: str) -> None:
    answer = server.ask(opening, k=5)
    if answer.status != 200:
        raise ProgramError(f"{server.name} answered {answer.outcome}: {answer.body.decode(errors='replace')}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.serving.loading", description="Measure the cost of a start of the service."
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model (default: the English one)")
    help = f"texts of {LENGTH} words before memory is measured again (default: 300)"
    parser.add_argument("--questions", type=int, default=300, help=help)
    chosen = parser.parse_args(arguments)
    if (busy := busy_cores()) > 0.2:
        print(f"{busy:.1f} cores are busy with other things: the seconds that pass mean little", file=sys.stderr)
    try:
        passed, used = map(statistics.median, zip(*(seconds_to_load(chosen.bundle) for _ in range(STARTS))))
        size = memory_of_a_worker(chosen.bundle, chosen.questions)
    except (ProgramError, subprocess.CalledProcessError) as error:
        print(f"loading: {error}", file=sys.stderr)
        return 2
    print(f"loading, with torch imported: {passed:.2f} s, {used:.2f} s of the processor (median of {STARTS})\n")
    print("| resident memory (RSS) of a worker | MB |\n|---|---:|")
    rows = {
        "ready": size.ready,
        f"after {chosen.questions} texts of {LENGTH} words": size.later,
        f"while {PEOPLE} clients type behind {LONG} words, median": size.typing,
        "the same, at most": size.most,
        f"{QUIET} s after that": size.quiet,
    }
    for name, value in rows.items():
        print(f"| {name} | {value / 1e6:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
