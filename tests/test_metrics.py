"""What the service says about itself: metrics and readiness."""
from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import PATIENCE, serving, started, wait_until

PATH = "/v1/next-words"
LONG = "They walked to the park today. " * 250


class Metrics(dict):
    """The values by name and labels, as they are now."""

    def __init__(self, client: httpx.Client):
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                self[sample.name, *sorted(sample.labels.values())] = sample.value

    def since(self, before: Metrics, *key: str) -> float:
        return self.get(key, 0) - before.get(key, 0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, tiny_bundle):
    """A service of two workers that nobody else asks."""
    with serving(tmp_path_factory.mktemp("metrics"), tiny_bundle, "--workers", "2") as server:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            wait_until(lambda: client.get("/ready").json()["workers"] == 2, "both workers")
            yield server, client


def test_requests_are_counted_by_route_and_status(fresh):
    _, client = fresh
    before = Metrics(client)
    for n in range(10):
        assert client.post(PATH, json={"text": f"I went {n}"}).status_code == 200
    client.post(PATH, json={"text": 1})
    client.post("/v1/score", json={"text": "I went"})
    client.get("/nothing/here")
    client.get("/page/page.css")
    after = Metrics(client)
    for route, status, count in ((PATH, "200", 10), (PATH, "422", 1), ("/v1/score", "200", 1), ("other", "404", 1)):
        assert after.since(before, "nextword_request_seconds_count", *sorted((route, status))) == count
    seconds = after.since(before, "nextword_request_seconds_sum", *sorted((PATH, "200")))
    assert 0 < seconds < PATIENCE


def test_batches_of_all_workers_are_counted(fresh):
    _, client = fresh
    before = Metrics(client)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: client.post(PATH, json={"text": f"{n} is short"}), range(64)))
    after = Metrics(client)
    assert after.since(before, "nextword_batch_size_sum", "next_words") == 64
    assert 1 <= after.since(before, "nextword_batch_size_count", "next_words") <= 64


def test_the_state_cache_is_counted(tmp_path, tiny_bundle):
    with serving(tmp_path, tiny_bundle) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        before = Metrics(client)
        for text in ("I", "I went", "I went to", "You"):
            client.post(PATH, json={"text": text})
        after = Metrics(client)
    assert after.since(before, "nextword_state_cache_hits_total") == 2
    assert after.since(before, "nextword_state_cache_misses_total") == 2
    assert 4_000 < after.since(before, "nextword_state_cache_bytes") < 40_000


def test_the_state_cache_keeps_to_its_setting(tmp_path, tiny_bundle):
    with serving(tmp_path, tiny_bundle, "--cache", "1") as server:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            for n in range(12):
                assert client.post(PATH, json={"text": f"{n} {LONG}"}).status_code == 200
            assert 500_000 < Metrics(client)["nextword_state_cache_bytes",] <= 1_000_000


def test_a_killed_worker_takes_its_cache_with_it(tmp_path, tiny_bundle):
    with serving(tmp_path, tiny_bundle) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        client.post(PATH, json={"text": LONG})
        assert Metrics(client)["nextword_state_cache_bytes",] > 100_000
        killed = server.worker()
        killed.kill()
        wait_until(lambda: killed not in server.children(), "the end of the worker")
        assert wait_until(lambda: client.get("/health").status_code == 200, "health")
        after = Metrics(client)
        assert after["nextword_state_cache_bytes",] < 100_000
        assert after["nextword_request_seconds_count", *sorted((PATH, "200"))] == 1


def test_waiting_requests_are_seen(fresh):
    _, client = fresh
    assert Metrics(client)["nextword_waiting_requests",] == 0
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(client.post, PATH, json={"text": f"{n} {LONG}"}) for n in range(20)]
        wait_until(lambda: Metrics(client)["nextword_waiting_requests",] > 0 or all(a.done() for a in asked), "waiting")
        seen = Metrics(client)["nextword_waiting_requests",]
        assert all(answer.result().status_code == 200 for answer in asked)
    assert seen <= 20
    assert Metrics(client)["nextword_waiting_requests",] == 0


def test_ready_follows_the_workers(tiny_bundle, tmp_path):
    with started(tmp_path, tiny_bundle) as server:
        url = wait_until(server.announced, "the line that says where it serves")
        ready = httpx.get(f"{url}/ready", timeout=PATIENCE)
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "workers": 1, "waiting": 0})
        server.worker().kill()

        def refused() -> bool:
            answer = httpx.get(f"{url}/ready", timeout=PATIENCE)
            return answer.status_code == 503 and answer.json()["workers"] == 0

        wait_until(refused, "that it is not ready")
        wait_until(lambda: httpx.get(f"{url}/ready", timeout=PATIENCE).status_code == 200, "that it is ready again")


def test_nothing_is_left_in_the_temporary_folder(tiny_bundle, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", tiny_bundle) as server:
        assert httpx.get(f"{server.url}/metrics", timeout=PATIENCE).status_code == 200
        assert [name for name in os.listdir(folder) if name.startswith("nextword-serve-")]
    assert server.process.returncode == 0
    assert os.listdir(folder) == []
