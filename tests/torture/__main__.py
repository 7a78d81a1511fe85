"""`python -m tests.torture`: the promises one by one, each put to the test on a real service."""
from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture import damage, deadlines, disks, fuzz, hanging, killing, overload, slow_connections, soak, stopping, trainings
from tests.torture.promise import Promise, table

PARTS = {
    "kill-worker": killing.kill_worker,
    "kill-http": killing.kill_http,
    "kill-main": killing.kill_main,
    "kill-others": killing.kill_others,
    "hang-worker": hanging.hang_worker,
    "stop": stopping.stop,
    "overload": overload.overload,
    "deadline": deadlines.deadlines,
    "fuzz": fuzz.fuzz,
    "schemathesis": fuzz.schemathesis,
    "slow-connections": slow_connections.slow_connections,
    "damage": damage.damage,
    "disks": disks.disks,
    "kill-training": trainings.kill_training,
    "soak": soak.soak,
}


def main(arguments: list[str] | None = None) -> int:
    asked = _parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no service is left running
    found: list[Promise] = []
    start = time.monotonic()
    for name in asked.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="nextword-torture-") as folder:
            for promise in _tested(name, asked, Path(folder)):
                _say(f"{time.monotonic() - start:6.0f} s  {name}: {promise.done}: {promise.figures}")
                found.append(promise)
    print(f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}, "
          f"{(time.monotonic() - start) / 60:.0f} minutes\n")
    print(table(found))
    return int(any(promise.kept is False for promise in found))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"which; all without any: {', '.join(PARTS)}")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model to serve (default: the English one)")
    parser.add_argument("--requests", type=int, default=500_000, help="of the soak (default: %(default)s)")
    parser.add_argument("--inputs", type=int, default=50_000, help="of the fuzz (default: %(default)s)")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return asked


def _tested(name: str, asked: argparse.Namespace, folder: Path) -> Iterator[Promise]:
    amounts = {"soak": {"requests": asked.requests}, "fuzz": {"inputs": asked.inputs}}.get(name, {})
    try:
        yield from PARTS[name](asked.bundle, folder, **amounts)
    except Exception as error:  # the other parts are to be tested all the same
        yield Promise("The test itself comes to an end", name, False, f"{type(error).__name__}: {error}".replace("\n", " "))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
