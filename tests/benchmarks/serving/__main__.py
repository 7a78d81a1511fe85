"""`python -m tests.benchmarks.serving`: starts the service and other servers, puts each under the same loads in turn, and compares."""
from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nextword.lm import BundleError, open_bundle
from tests.benchmarks.serving import machine, options, report, wanted
from tests.benchmarks.serving.load import Case, LoadError, find_wrk
from tests.benchmarks.serving.measure import Measurement, Texts, measure
from tests.benchmarks.serving.peers import PEERS, Peer
from tests.benchmarks.serving.processes import Server, ServerError, started

FULL = {"rounds": 3, "seconds": 2, "idle": 10, "words": [5, 50, 500], "connections": [1, 16, 64]}
QUICK = {"rounds": 1, "seconds": 1, "idle": 3, "words": [5, 500], "connections": [1, 64]}


def main(arguments: list[str] | None = None) -> int:
    asked = options.of_the_benchmark([peer.name for peer in PEERS], arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(asked, shlex.join(["python", "-m", "tests.benchmarks.serving", *(arguments or sys.argv[1:])]))
    except (BundleError, LoadError, ServerError, ImportError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(asked, command: str) -> int:
    if sys.platform != "linux":
        raise OSError("this needs Linux, whose /proc says what the servers cost")
    environment = machine.describe(find_wrk())
    model = open_bundle(asked.bundle).name
    plan = QUICK if asked.quick else FULL
    peers, notes = _choose(asked)
    busy = machine.busy_cores()
    if busy > 0.2:
        notes.append(f"{busy:.1f} cores of the machine were busy with other things: these figures mean little.")
        _say(notes[-1])
    with tempfile.TemporaryDirectory(prefix="nextword-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        texts = Texts(folder, plan["words"])
        servers = {
            peer.name: stack.enter_context(
                started(peer.name, peer.command(asked.bundle, asked.weights, folder), folder)
            )
            for peer in peers
        }
        for server in servers.values():
            server.wait_until_ready()
            _say(f"{server.name} is ready")
        measured = list(_rounds(peers, servers, texts, plan))
        memory = {server.name: server.memory() for server in servers.values()}
        idle = _idle(list(servers.values()), plan["idle"])
    verdicts = wanted.verdicts(measured, idle)
    print(report.markdown(command, environment, peers, measured, memory, idle, notes))
    print(f"\n{report.verdict_table(verdicts)}")
    if asked.json:
        found = {
            "command": command, "model": model, "machine": environment, "notes": notes, "memory": memory, "idle": idle,
            "measurements": [one._asdict() for one in measured],
            "wanted": [verdict._asdict() for verdict in verdicts],
        }  # fmt: skip
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _choose(asked) -> tuple[list[Peer], list[str]]:
    wished = [peer for peer in PEERS if not asked.only or peer.name in asked.only]
    notes = [f"Left out, as {peer.needs} is not installed: {peer.label}." for peer in wished if peer.missing()]
    for note in notes:
        _say(note)
    notes.append(
        f"The float32 model has {'trained' if asked.weights else 'random'} weights, the Transformer random ones and "
        "one token a word; the 5-gram model is of Python's documentation, where all the texts come from, and scores "
        "the words seen after the last word and the most frequent others, which is exact."
    )
    return [peer for peer in wished if not peer.missing()], notes


def _rounds(peers: list[Peer], servers: dict[str, Server], texts: Texts, plan: dict) -> Iterator[Measurement]:
    """Yields the measurements: in each round every load in turn, and each load on every server in turn."""
    cases = [
        Case(kind, words, connections)
        for kind in ("typing", "unrelated")
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
    """Per cent of a core that each takes while nobody asks."""
    time.sleep(1)
    before = [server.cpu_seconds() for server in servers]
    time.sleep(seconds)
    return {server.name: 100 * (server.cpu_seconds() - start) / seconds for server, start in zip(servers, before)}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
