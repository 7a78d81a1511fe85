"""`python -m tests.benchmarks.serving`: put the service and other servers under the same loads in turn, and compare."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from nextword.lm import BundleError, open_bundle
from tests.benchmarks.machine import describe
from tests.benchmarks.serving import options, report
from tests.benchmarks.serving.load import Case, LoadError, wrk_version
from tests.benchmarks.serving.measure import Measurement, Texts, measure
from tests.benchmarks.serving.peers import PEERS, Peer
from tests.harness.any_server import Server, running
from tests.harness.program import ProgramError

Plan = dict[str, Any]  # the numbers of rounds and seconds, the lengths of contexts, the numbers of connections
FULL: Plan = {"rounds": 3, "seconds": 2, "idle": 10, "words": [5, 50, 500], "connections": [1, 16, 64]}
QUICK: Plan = {"rounds": 1, "seconds": 1, "idle": 3, "words": [5, 500], "connections": [1, 64]}


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    chosen = options.parse_benchmark([peer.name for peer in PEERS], given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(chosen, shlex.join(["python", "-m", "tests.benchmarks.serving", *given]))
    except (BundleError, LoadError, ProgramError, ImportError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _run(chosen: argparse.Namespace, command: str) -> None:
    if sys.platform != "linux":
        raise OSError("this needs Linux, whose /proc has the processor time and the memory of the servers")
    environment = describe("torch", "litserve", "fastapi") | {"wrk": wrk_version()}
    model = open_bundle(chosen.bundle).name
    plan = QUICK if chosen.quick else FULL
    peers, notes = _choose(chosen)
    if (busy := busy_cores()) > 0.2:
        notes.append(f"{busy:.1f} cores of the machine were busy with other things: these figures mean little.")
        _say(notes[-1])
    with tempfile.TemporaryDirectory(prefix="nextword-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        texts = Texts(folder, plan["words"])
        servers = {
            peer.name: stack.enter_context(
                running(peer.name, peer.command(chosen.bundle, chosen.weights, folder), folder / peer.name)
            )
            for peer in peers
        }
        for server in servers.values():
            server.wait_until_ready()
            _say(f"{server.name} is ready")
        measured = list(_rounds(peers, servers, texts, plan))
        memory = {server.name: server.memory() for server in servers.values()}
        idle = _idle(list(servers.values()), plan["idle"])
    print(report.markdown(command, environment, peers, measured, memory, idle, notes))
    if chosen.json:
        figures = {
            "command": command,
            "model": model,
            "machine": environment,
            "notes": notes,
            "memory": memory,
            "idle": idle,
            "measurements": [one._asdict() for one in measured],
            "ratios": report.ratios(measured),
        }
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


def busy_cores(seconds: float = 1.0) -> float:
    """Return how many of the machine's cores are at work now, on average over so many seconds."""
    return psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1)


def _choose(chosen: argparse.Namespace) -> tuple[list[Peer], list[str]]:
    """Return the servers that can be measured here, and notes for the report."""
    named = [peer for peer in PEERS if not chosen.only or peer.name in chosen.only]
    notes = [f"Left out, as {peer.needs} is not installed: {peer.label}." for peer in named if peer.missing()]
    for note in notes:
        _say(note)
    notes.append(
        f"The float32 model has {'trained' if chosen.weights else 'random'} weights. The Transformer has random ones, "
        "and one token a word. The 5-gram model is of Python's documentation, where all the texts come from; it scores "
        "the words seen after the last word and the most frequent others, which is exact."
    )
    return [peer for peer in named if not peer.missing()], notes


def _rounds(peers: list[Peer], servers: dict[str, Server], texts: Texts, plan: Plan) -> Iterator[Measurement]:
    """Yield the measurements: in each round every load in turn, and each load on every server in turn."""
    cases = [
        Case(kind, words, connections)
        for kind in report.TITLES
        for words in plan["words"]
        for connections in plan["connections"]
    ]
    number = 0
    for round in range(1, plan["rounds"] + 1):
        for case in cases:
            _say(f"round {round} of {plan['rounds']}: {case.kind}, {case.words} words, {case.connections} connections")
            for peer in peers:
                if peer.takes(case):
                    number += 1
                    one = measure(servers[peer.name], case, texts, plan["seconds"] * peer.seconds, number, round)
                    if one.requests:
                        yield one
                    else:
                        _say(f"{peer.name} gave no answer in this time: left out")


def _idle(servers: list[Server], seconds: int) -> dict[str, float]:
    """Return the per cent of a core that each server uses while nobody asks."""
    time.sleep(1)
    before = [server.cpu_seconds() for server in servers]
    time.sleep(seconds)
    return {server.name: 100 * (server.cpu_seconds() - start) / seconds for server, start in zip(servers, before)}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
