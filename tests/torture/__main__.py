"""`python -m tests.torture`: attack a real service, one promise after the other, and print a table of the results."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.torture import (
    costly,
    damage,
    deadlines,
    disks,
    fuzz,
    hanging,
    hostile,
    killing,
    overload,
    profiles,
    slow_connections,
    soak,
    stopping,
    trainings,
)
from tests.torture.promise import Promise, table


class Part(NamedTuple):
    """A function of a bundle and a folder that tests promises, and its arguments for a short test."""

    test: Callable[..., Iterator[Promise]]
    quick: Mapping[str, Any] = MappingProxyType({})


PARTS = {
    "kill-worker": Part(killing.kill_worker, {"times": 2, "crowds": (16,)}),
    "kill-http": Part(killing.kill_http, {"crowds": (16,)}),
    "kill-main": Part(killing.kill_main, {"crowds": (16,)}),
    "kill-others": Part(killing.kill_others),
    "hang-worker": Part(hanging.hang_worker, {"crowds": (4,), "slow_seconds": 10}),
    "stop": Part(stopping.stop, {"cases": stopping.QUICK, "requests": 4}),  # a busy machine admits 4
    "overload": Part(overload.overload, {"connections": 100, "seconds": 4}),
    "costly": Part(costly.costly, {"seconds": 4}),
    "deadline": Part(deadlines.deadlines, {"settings": (0.5,)}),
    "fuzz": Part(fuzz.fuzz, {"inputs": 1500}),
    "schemathesis": Part(fuzz.schemathesis, {"examples": 5}),
    "slow-connections": Part(slow_connections.slow_connections, {"each": 10}),
    "hostile": Part(hostile.hostile, {"bodies": 60}),
    "damage": Part(damage.damage, {"bits": 30, "started": 1}),
    "disks": Part(disks.disks, {"sizes": (16, 256), "places": disks.PLACES[:1]}),
    "profiles": Part(profiles.profiles, {"times": 2, "clients": 4, "kilobytes": (1024,), "bits": 20}),
    "kill-training": Part(trainings.kill_training, {"times": 3}),
    # Memory goes on growing for longer than this takes; open handles and wrong answers show at once.
    "soak": Part(soak.soak, {"requests": 800, "cache": 1, "growth": 100_000_000}),
}


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.list:
        for name, part in PARTS.items():
            print(f"{name:17} {(part.test.__doc__ or '').splitlines()[0]}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no service is left running
    results: list[Promise] = []
    start = time.monotonic()
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="nextword-torture-") as folder:
            for promise in _run(name, options, Path(folder)):
                line = f"{time.monotonic() - start:6.0f} s  {name}: {promise.attack}: {promise.figures}"
                print(line, file=sys.stderr, flush=True)
                results.append(promise)
    print(
        f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"{(time.monotonic() - start) / 60:.0f} minutes\n"
    )
    print(table(results))
    return int(any(promise.kept is False for promise in results))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description="Attack a real service and a training."
    )
    parser.add_argument("parts", nargs="*", metavar="part", help="without any, all of --list")
    parser.add_argument("--list", action="store_true", help="list the parts, and test nothing")
    parser.add_argument("--quick", action="store_true", help="a small measure of each part: some minutes in all")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model to serve (default: the English one)")
    parser.add_argument("--requests", type=int, help="of the soak (default: 500,000)")
    parser.add_argument("--inputs", type=int, help="of the fuzz (default: 50,000)")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def _run(name: str, options: argparse.Namespace, folder: Path) -> Iterator[Promise]:
    part = PARTS[name]
    amounts = dict(part.quick) if options.quick else {}
    given = {"soak": ("requests", options.requests), "fuzz": ("inputs", options.inputs)}.get(name, ("", None))
    if given[1]:
        amounts[given[0]] = given[1]
    try:
        yield from part.test(options.bundle, folder, **amounts)
    except Exception as error:  # the other parts are tested all the same
        figures = f"{type(error).__name__}: {error}".replace("\n", " ")
        yield Promise("The test itself comes to an end", name, False, figures)


if __name__ == "__main__":
    sys.exit(main())
