"""The promises about faults and abuse, each broken for real in a small measure; `make torture` does it at length."""
from __future__ import annotations

import itertools
import signal
from collections.abc import Iterable

import pytest

from tests.harness.waiting import PATIENCE  # a busy machine takes longer for what takes work
from tests.torture import damage, deadlines, disks, fuzz, hanging, killing, overload, slow_connections, soak, stopping
from tests.torture.__main__ import PARTS
from tests.torture.promise import Promise, table
from tests.torture.service import serving


def check(promises: Iterable[Promise]) -> None:
    found = list(promises)
    assert found
    assert [promise for promise in found if promise.kept is False] == [], table(found)
    if all(promise.kept is None for promise in found):
        pytest.skip(found[0].figures)


def test_a_killed_worker_is_replaced(tiny_bundle, tmp_path):
    check(itertools.islice(killing.kill_worker(tiny_bundle, tmp_path, times=2, connections=16, within=PATIENCE), 2))


def test_workers_killed_before_they_have_begun_are_replaced(tmp_path):
    check([killing.kill_starting_worker(None, tmp_path)])  # of the English model, which is more than a pipe holds


def test_a_stopped_worker_is_replaced(tiny_bundle, tmp_path):
    with serving(tmp_path, tiny_bundle) as service:
        check([hanging.stopped(service, connections=4, within=PATIENCE)])


def test_a_killed_http_process_ends_the_service(tiny_bundle, tmp_path):
    check(killing.kill_http(tiny_bundle, tmp_path, crowds=(16,)))


def test_a_killed_main_process_leaves_nothing_for_long(tiny_bundle, tmp_path):
    check(killing.kill_main(tiny_bundle, tmp_path, crowds=(16,)))


@pytest.mark.parametrize("case", [
    (signal.SIGTERM, "the process", True), (signal.SIGINT, "the group", True), (signal.SIGTERM, "PID 1", True),
], ids=lambda case: f"{case[0].name} to {case[1]}")  # fmt: skip
def test_stopping_answers_what_is_in_flight(tiny_bundle, tmp_path, case):
    check(stopping.stop(tiny_bundle, tmp_path, cases=[case]))


def test_overload_is_refused_at_once(tiny_bundle, tmp_path):
    check(overload.overload(tiny_bundle, tmp_path, connections=100, seconds=4))


def test_deadlines_hold(tiny_bundle, tmp_path):
    check(deadlines.deadlines(tiny_bundle, tmp_path, settings=(0.5,), slack=5))


def test_no_input_is_a_fault_of_the_service(tiny_bundle, tmp_path):
    check(fuzz.fuzz(tiny_bundle, tmp_path, inputs=1500))


def test_slow_connections_are_given_up(tiny_bundle, tmp_path):
    check(slow_connections.slow_connections(tiny_bundle, tmp_path, each=10))


def test_a_damaged_bundle_is_refused(tiny_bundle, tmp_path):
    check(damage.damage(tiny_bundle, tmp_path, bits=30, started=1))


def test_a_disk_that_gets_full_does_not_matter(tiny_bundle, tmp_path):
    check([disks.serve_until_full(tiny_bundle, tmp_path)])


def test_a_disk_that_cannot_be_written_to_is_told(tiny_bundle, tmp_path):
    check([disks.serve_read_only(tiny_bundle, tmp_path)])


def test_a_quarter_of_a_minute_of_everything(tiny_bundle, tmp_path):
    # It takes longer than that until memory is flat; that no handle is left open, and no answer wrong, is seen at once.
    check(soak.soak(tiny_bundle, tmp_path, requests=800, cache=1, growth=100_000_000))


def test_the_table_names_what_is_broken():
    promises = [Promise("a", "b", kept, "d") for kept in (True, False, None)]
    rows = table(promises).splitlines()[2:]
    assert [row.split(" | ")[2] for row in rows] == ["kept", "**broken**", "not tested"]
    assert set(PARTS) >= {"kill-worker", "stop", "overload", "fuzz", "soak", "damage", "disks", "kill-training"}
