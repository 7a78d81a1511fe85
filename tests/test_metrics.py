"""What the service says about itself: metrics and readiness."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.service_fixtures import PATIENCE, serving, wait_until

PATH = "/v1/next-words"
LONG = "They walked to the park today. " * 250


class Metrics(dict):
    """The values by name and labels, as they are now."""

    def __init__(self, client: httpx.Client):
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                self[(sample.name, *sorted(sample.labels.values()))] = sample.value

    def since(self, before: Metrics, *key: str) -> float:
        return self.get(key, 0) - before.get(key, 0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, tiny_bundle):
    """A service with a small cache that nobody else asks."""
    with serving(tmp_path_factory.mktemp("metrics"), tiny_bundle, "--cache", "1") as server:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
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


def test_batches_are_counted(fresh):
    _, client = fresh
    before = Metrics(client)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: client.post(PATH, json={"text": f"{n} is short"}), range(64)))
    after = Metrics(client)
    assert after.since(before, "nextword_batch_size_sum", "next_words") == 64
    assert 1 <= after.since(before, "nextword_batch_size_count", "next_words") <= 64


def test_the_state_cache_is_counted_and_keeps_to_its_setting(fresh):
    _, client = fresh
    before = Metrics(client)
    for text in ("Zero", "Zero went", "Zero went to", "Nobody"):
        client.post(PATH, json={"text": text})
    after = Metrics(client)
    assert after.since(before, "nextword_state_cache_hits_total") == 2
    assert after.since(before, "nextword_state_cache_misses_total") == 2
    assert 4_000 < after.since(before, "nextword_state_cache_bytes") < 40_000
    for n in range(12):
        assert client.post(PATH, json={"text": f"{n} {LONG}"}).status_code == 200
    assert 500_000 < Metrics(client)["nextword_state_cache_bytes",] <= 1_250_000


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


def test_a_killed_worker_takes_its_cache_with_it_and_readiness_but_no_counts(fresh):
    server, client = fresh
    ready = client.get("/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "workers": 1, "waiting": 0})
    client.post(PATH, json={"text": LONG})
    before = Metrics(client)
    assert before["nextword_state_cache_bytes",] > 100_000
    killed = server.worker()
    killed.kill()

    def refused() -> bool:
        answer = client.get("/ready")
        return answer.status_code == 503 and answer.json()["workers"] == 0

    wait_until(refused, "that it is not ready")
    wait_until(lambda: client.get("/ready").status_code == 200, "that it is ready again")
    assert wait_until(lambda: client.get("/health").status_code == 200, "health")
    after = Metrics(client)
    assert after["nextword_state_cache_bytes",] < 100_000
    assert after.since(before, "nextword_worker_restarts_total") == 1
    assert after["nextword_process_resident_bytes", "workers"] > 10_000_000
    assert after.since(before, "nextword_process_cpu_seconds_total", "workers") > 0
    for name in ("nextword_batch_size_count", "nextword_batch_size_sum"):
        assert after[name, "next_words"] > before[name, "next_words"]
    for name in ("nextword_state_cache_hits_total", "nextword_state_cache_misses_total"):
        assert after[name,] >= before[name,]
