"""The promises about faults and abuse, each broken for real in a small measure; `make torture` does it at length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.waiting import PATIENCE  # a busy machine takes longer for what takes work
from tests.torture import deadlines, disks, hanging, killing, slow_connections, stopping
from tests.torture.__main__ import PARTS
from tests.torture.promise import Promise, table
from tests.torture.quiet_service import serving


def check(promises: Iterable[Promise]) -> None:
    """Fail where a promise is broken; skip where this machine can test none of them."""
    results = list(promises)
    assert results
    assert [promise for promise in results if promise.kept is False] == [], table(results)
    if all(promise.kept is None for promise in results):
        pytest.skip(results[0].figures)


def quick(name: str, bundle: Path, folder: Path) -> Iterator[Promise]:
    """Return the results of a part of the torture in its quick form."""
    return PARTS[name].test(bundle, folder, **PARTS[name].quick)


def stop_worker(bundle: Path, folder: Path) -> Iterator[Promise]:
    with serving(folder, bundle) as service:
        yield hanging.stopped(service, connections=4, within=PATIENCE)


def ask_a_stopped_worker(bundle: Path, folder: Path) -> Iterator[Promise]:
    return deadlines.deadlines(bundle, folder, settings=(0.5,), slack=5)


def hold_slow_connections(bundle: Path, folder: Path) -> Iterator[Promise]:
    return slow_connections.slow_connections(bundle, folder, each=10)


WAITING: list[Callable[[Path, Path], Iterator[Promise]]] = [hold_slow_connections, stop_worker, ask_a_stopped_worker]


@pytest.fixture(scope="module")
def side_by_side(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[Promise]]]]:
    """The results of attacks that mostly wait: they run at the same time, each on a service of its own."""
    with ThreadPoolExecutor(len(WAITING)) as pool:

        def start(attack: Callable[[Path, Path], Iterator[Promise]]) -> Future[list[Promise]]:
            folder = tmp_path_factory.mktemp("attack")
            return pool.submit(lambda: list(attack(tiny_bundle, folder)))

        yield {attack.__name__: start(attack) for attack in WAITING}


@pytest.mark.parametrize("name", [attack.__name__ for attack in WAITING])
def test_it_gives_up_on_slow_connections_and_stopped_workers(
    side_by_side: dict[str, Future[list[Promise]]], name: str
) -> None:
    check(side_by_side[name].result())


def test_a_killed_worker_is_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    check(itertools.islice(killing.kill_worker(tiny_bundle, tmp_path, times=2, crowds=(16,), within=PATIENCE), 1))


def test_workers_killed_before_they_have_begun_are_replaced(tmp_path: Path) -> None:
    check([killing.kill_starting_worker(None, tmp_path)])  # of the English model, which is more than a pipe holds


@pytest.mark.parametrize("name", ["kill-http", "kill-main", "overload", "fuzz", "hostile", "damage", "soak"])
def test_quick_form_of(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    check(quick(name, tiny_bundle, tmp_path))


@pytest.mark.parametrize("case", stopping.QUICK, ids=lambda case: f"{case[0].name} to {case[1]}")
def test_stopping_answers_what_is_in_flight(tiny_bundle: Path, tmp_path: Path, case: stopping.Case) -> None:
    check(stopping.stop(tiny_bundle, tmp_path, requests=4, cases=[case]))  # a busy machine admits so few


def test_a_disk_that_gets_full_does_not_matter(tiny_bundle: Path, tmp_path: Path) -> None:
    check([disks.serve_until_full(tiny_bundle, tmp_path)])


def test_a_disk_that_cannot_be_written_to_is_told(tiny_bundle: Path, tmp_path: Path) -> None:
    check([disks.serve_read_only(tiny_bundle, tmp_path)])


def test_the_table_names_what_is_broken() -> None:
    promises = [Promise("a", "b", kept, "d") for kept in (True, False, None)]
    rows = table(promises).splitlines()[2:]
    assert [row.split(" | ")[2] for row in rows] == ["kept", "**broken**", "not tested"]
