"""A new bundle while the service runs: nothing is lost, and what is no good is not taken."""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from nextword.lm.bundle import MODEL, TOKENIZER, open_bundle, write_bundle
from nextword.serve.engine.supervisor import Supervisor
from tests.service_fixtures import PATIENCE, Service, serving, wait_until
from tests.test_metrics import Metrics

WORDS, WRITE = "/v1/next-words", "/v1/completions"


def put(bundle: Path, into: Path, name: str) -> None:
    """Writes a bundle of another name into a folder."""
    shutil.rmtree(into, ignore_errors=True)
    known = open_bundle(bundle)
    metadata = {key: value for key, value in known.metadata.items() if key not in ("format", "files", "sha256")}
    write_bundle(into, known.content[MODEL], known.content[TOKENIZER].decode(), {**metadata, "name": name})


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("reload")
    put(tiny_bundle, folder / "bundle", "first")
    with serving(folder, folder / "bundle", "--workers", "2") as server:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            wait_until(lambda: client.get("/ready").json()["workers"] == 2, "both workers")
            yield server, client, folder / "bundle"


def workers(server: Service) -> set[int]:
    found = set()
    for child in server.children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def said(server: Service, what: str) -> int:
    return server.log.read_text().count(what)


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda bundle: (bundle / MODEL).write_bytes((bundle / MODEL).read_bytes()[:-1]),
     "model.pt does not have the sha256"),
    (lambda bundle: (bundle / "bundle.json").unlink(), "it has no bundle.json"),
    (lambda bundle: (bundle / "bundle.json").write_text("[" * 200_000), "bundle.json"),
    (lambda bundle: (bundle / MODEL).unlink() or os.mkfifo(bundle / MODEL), "model.pt"),
    (lambda bundle: (bundle / TOKENIZER).unlink() or (bundle / TOKENIZER).symlink_to("/dev/zero"), TOKENIZER),
    (lambda bundle: write_bundle(bundle, b"no program", "{}", {"name": "empty"}), "a worker ended before it was ready"),
], ids=["damaged", "missing", "nested", "a pipe", "a device", "unloadable"])
def test_a_bundle_that_is_no_good_is_refused(running, tiny_bundle, damage, reason):
    server, client, bundle = running
    put(tiny_bundle, bundle, "good")
    model, old, refusals = client.get("/health").json()["model"], workers(server), said(server, "reload refused")
    damage(bundle)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: said(server, "reload refused") > refusals, "the refusal")
    assert f"reload refused, {model} goes on: " in server.log.read_text() and said(server, reason)
    assert client.post(WORDS, json={"text": "I went"}).json()["model"] == model
    assert workers(server) == old


def test_no_exception_at_a_reload_ends_the_service(caplog):
    class API:
        model = "old"

        def reloaded(self):
            raise MemoryError("of all kinds")

    supervisor = Supervisor.__new__(Supervisor)
    supervisor._api, supervisor._next_workers = API(), []
    supervisor._reload()
    assert "reload refused, old goes on: MemoryError: of all kinds" in caplog.text


def test_a_killed_worker_is_replaced_by_the_old_model_though_the_folder_is_damaged(running, tiny_bundle):
    server, client, bundle = running
    model = client.get("/health").json()["model"]
    (bundle / MODEL).write_bytes(b"")
    killed = server.worker()
    killed.kill()
    wait_until(lambda: len(workers(server) - {killed.pid}) == 2, "another worker")
    wait_until(lambda: client.get("/ready").json()["workers"] == 2, "that it is ready")
    assert {client.post(WORDS, json={"text": f"I went {n}"}).json()["model"] for n in range(8)} == {model}


def test_a_new_bundle_takes_over_under_load(running, tiny_bundle):
    server, client, bundle = running
    old, enough = workers(server), threading.Event()
    statuses, models = [], []

    def load(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as mine:
            while not enough.is_set():
                answer = mine.post(WORDS, json={"text": f"I went to the {number}"})
                statuses.append(answer.status_code)
                models.append(answer.json().get("model"))
                if number == 0:
                    written = mine.post(WRITE, json={"prompt": "I went", "max_tokens": 20, "stream": True})
                    statuses.append(written.status_code if written.text.endswith("data: [DONE]\n\n") else written.text)

    put(tiny_bundle, bundle, "second")
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, number) for number in range(4)]
        try:
            wait_until(lambda: len(models) > 20, "answers of the old model")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: client.get("/health").json()["model"] == "second", "the new model")
            before = len(models)
            wait_until(lambda: len(models) > before + 20, "answers of the new model")
        finally:
            enough.set()
        [done.result() for done in loads]
    assert set(statuses) == {200}
    assert set(models) == {"first", "second"} and set(models[before + 8 :]) == {"second"}
    assert client.get("/v1/models").json()["data"][0]["id"] == "second"
    wait_until(lambda: not old & workers(server), "the end of the old workers")
    assert len(workers(server)) == 2
    assert client.get("/ready").json() == {"status": "ready", "workers": 2, "waiting": 0}
    metrics = Metrics(client)  # of all workers, also those that have ended
    routes = [(path, status) for path in (WORDS, "/health") for status in ("200", "503")]
    requests = sum(metrics.get(("nextword_request_seconds_count", *sorted(route)), 0) for route in routes)
    questions = metrics["nextword_batch_size_sum", "next_words"]
    assert questions <= requests < questions + 20  # some were refused, or asked a worker that was killed


def test_workers_that_are_lost_in_a_reload_and_a_stop_in_the_middle_of_one(tmp_path, tiny_bundle):
    put(tiny_bundle, tmp_path / "bundle", "first")
    with serving(tmp_path, tmp_path / "bundle") as server:
        [old] = workers(server)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(workers(server)) == 2, "the new worker")
        psutil.Process(old).kill()
        wait_until(lambda: said(server, "from now on"), "the new model")
        wait_until(lambda: len(workers(server)) == 1, "the end of the one that came in place of the old one")
        assert httpx.post(server.url + WORDS, json={"text": "I"}, timeout=PATIENCE).status_code == 200
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(workers(server)) == 2, "a new worker")
        server.process.terminate()
        assert server.process.wait(timeout=PATIENCE) == 0
        wait_until(lambda: not server.group(), "the end of all processes", 5)
