"""The service as its users meet it: over HTTP, and as a program that is started and stopped."""
from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import httpx
import pytest

from nextword.lm import malloc as memory
from nextword.serve import logs
from nextword.serve.worker.lit_api import QUIET, NextWordsAPI, grouped
from nextword.serve.web.middleware.body_limit import BODY_LIMIT
from nextword.serve.engine.links import Frames, frame
from nextword.serve.engine.admission import Pace
from nextword.serve.schemas import CONTEXT_LIMIT, TEXT_LIMIT, NextWordsRequest
from tests.servers import PATIENCE, ROOT, serving, started, wait_until

PATH = "/v1/next-words"
JSON = {"content-type": "application/json"}
LONG = ("They walked to the park today. " * TEXT_LIMIT)[:TEXT_LIMIT]


def words(http: httpx.Client, **question) -> list[dict]:
    response = http.post(PATH, json=question)
    assert response.status_code == 200, response.text
    return response.json()["words"]


# Answers


def test_answer_has_the_model_and_words_best_first(http, tiny_model):
    answer = http.post(PATH, json={"text": "I went to the"}).json()
    assert answer["model"] == tiny_model.name
    assert len(answer["words"]) == 5
    probabilities = [word["probability"] for word in answer["words"]]
    assert probabilities == sorted(probabilities, reverse=True)
    for word in answer["words"]:
        assert math.exp(word["logprob"]) == pytest.approx(word["probability"], rel=1e-6)


@pytest.mark.parametrize(
    "question",
    [
        {"text": ""},
        {"text": "Thank you", "k": 1},
        {"text": "Thank you", "k": 2.0},
        {"text": "I went to the London zoo", "k": 100, "punctuation": True},
        {"text": "I went to", "partial": "t"},
        {"text": "I went to", "partial": "T", "k": 3},
        {"text": "I went to", "exclude": ["the", "STORE"]},
        {"text": "nothing begins so", "partial": "qzxqzx"},
        {"text": "a\0b"},
        {"text": "🙂 한국어 naïve e\u0301"},
    ],
    ids=str,
)
def test_answers_are_the_models_own(http, tiny_model, question):
    expected = [word._asdict() for word in tiny_model.next_words(**{**question, "k": int(question.get("k", 5))})]
    answered = words(http, **question)
    assert [word["word"] for word in answered] == [word["word"] for word in expected]
    for mine, other in zip(answered, expected):
        assert mine["logprob"] == pytest.approx(other["logprob"], abs=1e-5)


def test_longest_text_is_answered_from_its_end(http, tiny_model):
    end = "\nThank you very"
    answer = words(http, text=LONG[len(end) :] + end)
    expected = tiny_model.next_words(LONG[-10 * CONTEXT_LIMIT :] + end)
    assert [word["word"] for word in answer] == [word.word for word in expected]
    assert [word["logprob"] for word in answer] == pytest.approx([word.logprob for word in expected], abs=1e-3)


def test_questions_asked_together_get_the_answers_they_get_alone(http):
    texts = [LONG[:length] for length in (0, 3, 7, 30, 200, 1500)] * 5
    alone = {text: words(http, text=text) for text in set(texts)}
    with ThreadPoolExecutor(len(texts)) as pool:
        together = list(pool.map(lambda text: words(http, text=text), texts))
    for text, answer in zip(texts, together):
        assert [word["word"] for word in answer] == [word["word"] for word in alone[text]]
        for mine, other in zip(answer, alone[text]):
            assert mine["logprob"] == pytest.approx(other["logprob"], abs=1e-4)


def test_one_failing_question_does_not_fail_those_beside_it(tiny_bundle, caplog):
    api = NextWordsAPI(tiny_bundle)
    api.setup("cpu")
    good, bad = (("next_words", NextWordsRequest(text=text).model_dump()) for text in ("I went", "a secret"))
    bad[1]["partial"] = None  # nothing that the service lets through
    results = api.predict([good, bad, good])
    assert isinstance(results[1], Exception)
    assert results[0] == results[2] == api.predict([good])[0]
    assert "secret" not in caplog.text


def test_groups_are_of_like_length_and_within_the_budget():
    lengths = [900, 10, 1000, 0, 5000, 20, 950, 30]
    groups = list(grouped(lengths, budget=3000))
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert [[lengths[place] for place in group] for group in groups] == [[0, 10, 20, 30], [900, 950, 1000], [5000]]


# Refusals


def error(response: httpx.Response) -> dict:
    content = response.json()
    assert content.keys() == {"error"}
    assert content["error"]["type"] and content["error"]["message"]
    return content["error"]


@pytest.mark.parametrize(
    ("question", "where", "hint"),
    [
        ({}, "text", "required"),
        ({"text": None}, "text", "string"),
        ({"text": 1}, "text", "string"),
        ({"text": "x" * (TEXT_LIMIT + 1)}, "text", "100000"),
        ({"text": "\ud800"}, "text", "unicode"),
        ({"text": "", "k": "5"}, "k", "integer"),
        ({"text": "", "k": True}, "k", "integer"),
        ({"text": "", "k": 5.5}, "k", "integer"),
        ({"text": "", "k": math.inf}, "k", "integer"),
        ({"text": "", "k": math.nan}, "k", "integer"),
        ({"text": "", "k": 0}, "k", "1"),
        ({"text": "", "k": 101}, "k", "100"),
        ({"text": "", "k": 10**30}, "k", "100"),
        ({"text": "", "partial": None}, "partial", "string"),
        ({"text": "", "partial": "x" * 101}, "partial", "100"),
        ({"text": "", "punctuation": 1}, "punctuation", "boolean"),
        ({"text": "", "exclude": "the"}, "exclude", "list"),
        ({"text": "", "exclude": ["a", 1]}, "exclude.1", "string"),
        ({"text": "", "exclude": ["a"] * 1001}, "exclude", "1000"),
        ({"text": "", "temperature": 1}, "temperature", "no such field"),
        ({"text": "", "\ud800": 1}, None, ""),
        ([], "body", "object"),
        ("text", "body", "object"),
        (None, "body", "object"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_wrong_fields_are_refused_by_name(http, question, where, hint):
    response = http.post(PATH, content=json.dumps(question), headers=JSON)
    assert response.status_code == 422
    fault = error(response)
    assert fault["type"] == "invalid_request"
    assert where is None or fault["where"] == where
    assert hint in fault["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"text": "a"} x',
        b'{"text": "\xff"}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"text": "", "k": ' + b"1" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_json_is_refused(http, body):
    response = http.post(PATH, content=body, headers=JSON)
    assert response.status_code == 400
    assert error(response)["type"] == "invalid_json"


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", ";"])
def test_other_media_types_are_refused(http, media_type):
    headers = {"content-type": media_type} if media_type else {}
    response = http.post(PATH, content=b'{"text": ""}', headers=headers)
    assert response.status_code == 415
    assert "application/json" in error(response)["message"]


def test_too_large_bodies_are_refused_declared_or_not(http):
    large = b'{"text": "' + b"x" * BODY_LIMIT
    for content in (large, iter([large[:1000], large[1000:]])):
        response = http.post(PATH, content=content, headers=JSON)
        assert response.status_code == 413
        assert error(response)["type"] == "too_large"


def test_other_addresses_and_methods_are_refused(http):
    assert error(http.get("/nothing/here"))["type"] == "not_found"
    assert error(http.get("/page/nothing"))["type"] == "not_found"
    refused = http.get(PATH)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert "POST" in error(refused)["message"]


def test_what_cannot_be_answered_in_time_is_given_up(tiny_bundle, tmp_path):
    with serving(tmp_path, tiny_bundle, "--deadline", "0.1") as server, httpx.Client(timeout=PATIENCE) as client:
        with ThreadPoolExecutor(20) as pool:
            asked = [pool.submit(client.post, server.url + PATH, json={"text": LONG[n:]}) for n in range(20)]
        late = [answer.result() for answer in asked if answer.result().status_code != 200]
        assert late
        for response in late:
            assert response.headers["retry-after"] == "1"
            # Given up when the time is over, or refused at once where it can be foreseen.
            assert (response.status_code, error(response)["type"]) in ((504, "deadline_passed"), (503, "unavailable"))
        wait_until(lambda: client.post(server.url + PATH, json={"text": ""}).status_code == 200, "service as before")


# Health and documentation


def test_health_says_ready(http, tiny_model):
    assert http.get("/health").json() == {"status": "ready", "model": tiny_model.name}


def test_openapi_document_is_true(http):
    document = http.get("/openapi.json").json()
    assert set(document["paths"]) >= {PATH, "/v1/score", "/v1/completions", "/v1/models", "/health", "/ready", "/metrics"}
    schemas = document["components"]["schemas"]
    assert words(http, **schemas["NextWordsRequest"]["examples"][0])
    statuses = document["paths"][PATH]["post"]["responses"]
    assert {"200", "400", "413", "415", "422", "503", "504"} <= statuses.keys()
    for status in statuses.keys() - {"200"}:
        assert statuses[status]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_nothing_from_elsewhere(http, path):
    page = http.get(path)
    assert page.headers["content-type"].startswith("text/html")
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        assert address.startswith("/")
        assert http.get(address).status_code == 200


# The program


def test_nothing_is_written_to_the_working_directory(server, http):
    words(http, text="")
    assert list(server.folder.iterdir()) == []


READ_ONLY_PAGES = """
import psutil, torch
from nextword.lm import load
from nextword.lm import malloc as memory

model = load()
words = model.next_words("Thank you very")
before = psutil.Process().memory_info()
memory.unmap_unwritten()
after = psutil.Process().memory_info()
assert model.next_words("Thank you very") == words
print((before.rss - after.rss) / 1e6, (before.rss - psutil.Process().memory_info().rss) / 1e6)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux is told")
def test_what_only_the_start_has_read_does_not_stay_in_memory():
    run = subprocess.run([sys.executable, "-c", READ_ONLY_PAGES], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    gone, stays_gone = map(float, run.stdout.split())
    assert gone >= stays_gone > 30  # MB of torch's


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux is told")
def test_a_worker_has_not_all_of_torch_in_memory(server, http):
    http.post(PATH, json={"text": "They walked to the"})
    parts = server.worker().memory_maps()
    library = next(part for part in parts if part.path.endswith("/libtorch_cpu.so"))
    assert 0 < library.rss < 50e6  # of 70 MB that importing it reads


def test_a_worker_that_nobody_asks_gives_freed_memory_back_once(tiny_bundle, monkeypatch):
    monkeypatch.setattr(logs, "configure", lambda: None)  # the tests' own
    monkeypatch.setattr(memory, "keep_little_freed", lambda: None)
    monkeypatch.setattr(memory, "unmap_unwritten", lambda: None)
    api = NextWordsAPI(tiny_bundle)
    api.setup("cpu")
    given_back = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(1))
    ours, theirs = socket.socketpair()
    worker = Thread(target=api.loop, args=(api, "cpu", 0, None, theirs, None, None))
    worker.start()
    frames, found = Frames(), []

    def answer_to(number: int, content: bytes = b"") -> bytes:
        ours.sendall(frame(number, content))
        while not found:
            found.extend(frames.add(ours.recv(1000)))
        assert found[0][0] == number
        return found.pop()[1]

    with theirs, ours:
        assert frames.add(ours.recv(1000)) == [(0, api.model.encode())]
        question = pickle.dumps(("next_words", NextWordsRequest(text="They walked to").model_dump()))
        for expected in (1, 2):
            assert b"probability" in answer_to(expected, question)
            for _ in range(QUIET - 1):
                answer_to(0)
            assert len(given_back) == expected - 1
            # More signs may be needed: those that come while the worker looks whether there is a question do not count.
            wait_until(lambda: answer_to(0) or len(given_back) == expected, "freed memory to be given back")
            for _ in range(3 * QUIET):
                answer_to(0)
                time.sleep(0.01)
            assert len(given_back) == expected
        ours.shutdown(socket.SHUT_RDWR)
        worker.join(PATIENCE)
        assert not worker.is_alive()


def test_idle_service_uses_no_cpu(server, http):
    words(http, text="")

    def used() -> float:
        return sum(times.user + times.system for times in (process.cpu_times() for process in server.group()))

    before, end = used(), time.monotonic() + 2
    wait_until(lambda: time.monotonic() > end, "two seconds")
    assert used() - before < 0.2


def run(*options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "nextword.serve", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stderr


def test_port_in_use_is_one_line(tiny_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, message = run("--bundle", str(tiny_bundle), "--port", port)
    assert status == 2
    assert message.count("\n") == 1 and port in message and "--port" in message


@pytest.mark.parametrize("fault", ["missing", "damaged", "unloadable"])
def test_unusable_bundle_is_one_line(tiny_bundle, tmp_path, fault):
    bundle = tmp_path / "bundle"
    if fault != "missing":
        shutil.copytree(tiny_bundle, bundle)
        (bundle / "model.pt").write_bytes(b"no TorchScript")
    if fault == "unloadable":
        description = json.loads((bundle / "bundle.json").read_text())
        description["sha256"] = ""
        description["files"]["model.pt"]["sha256"] = hashlib.sha256(b"no TorchScript").hexdigest()
        (bundle / "bundle.json").write_text(json.dumps(description))
    status, message = run("--bundle", str(bundle), "--port", "0")
    assert status == 2
    assert str(bundle) in message.splitlines()[0]
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "99999"),
        ("--port", "http"),
        ("--workers", "0"),
        ("--deadline", "never"),
        ("--host", "no.such.host.invalid"),
        ("--colour", "red"),
    ],
    ids=" ".join,
)
def test_bad_values_are_one_line(tiny_bundle, options):
    status, message = run("--bundle", str(tiny_bundle), *options)
    assert status == 2
    assert message.count("\n") == 1
    assert options[1] in message


def complaints(server) -> list[str]:
    """What the service said beyond the usual."""
    return [line for line in server.log.read_text().splitlines() if " INFO " not in line]


def listening(url: str) -> bool:
    address = httpx.URL(url)
    try:
        socket.create_connection((address.host, address.port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("to_group", [False, True], ids=["SIGTERM", "SIGINT to the group"])
def test_stopping_answers_what_is_in_flight_and_leaves_nothing(tiny_bundle, tmp_path, to_group):
    with serving(tmp_path, tiny_bundle, "--workers", "2") as server, httpx.Client(timeout=PATIENCE) as client:
        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(client.post, server.url + PATH, json={"text": LONG[n:]}) for n in range(40)]

            def received() -> int:
                done = sum(answer.done() for answer in asked)
                return done and done + client.get(server.url + "/ready").json()["waiting"]

            wait_until(lambda: received() == 40, "the first answer, and all other requests")
            if to_group:
                os.killpg(server.process.pid, signal.SIGINT)
            else:
                server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not listening(server.url), "the refusal of new connections")
            assert not all(answer.done() for answer in asked)
            assert [answer.result().status_code for answer in asked] == [200] * 40
        assert server.process.wait(timeout=20) == 0
        assert wait_until(lambda: not server.group(), "the end of all processes", 5)
        assert not listening(server.url)
        assert len(complaints(server)) == 1  # which is where it serves


def test_stopping_while_it_starts_is_clean(tiny_bundle, tmp_path):
    with started(tmp_path, tiny_bundle) as server:
        wait_until(server.children, "the first child")
        server.process.terminate()
        assert server.process.wait(timeout=20) == 0
        assert wait_until(lambda: not server.group(), "the end of all processes", 5)
        assert complaints(server) == []


def test_killed_worker_is_replaced_and_killed_http_process_ends_the_service(tiny_bundle, tmp_path):
    with serving(tmp_path, tiny_bundle) as server, httpx.Client(timeout=PATIENCE) as client:
        killed = server.worker()
        killed.kill()
        wait_until(lambda: killed not in server.children(), "the end of the worker")
        refused = client.post(server.url + PATH, json={"text": ""})
        if refused.status_code != 200:  # the new worker is not ready yet
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        wait_until(lambda: client.get(server.url + "/health").status_code == 200, "health")
        assert client.post(server.url + PATH, json={"text": ""}).status_code == 200

        server.http().kill()
        assert server.process.wait(timeout=20) == 1
        assert wait_until(lambda: not server.group(), "the end of all processes", 5)
        assert "HTTP process" in server.log.read_text()


def test_slow_answers_one_at_a_time_do_not_keep_many_quick_ones_out(monkeypatch):
    pace, clock = Pace(), [0.0]
    monkeypatch.setattr("nextword.serve.engine.admission.time.monotonic", lambda: clock[0])

    def answers(times, seconds, waiting):
        for _ in range(times):
            pace.waits(waiting)
            clock[0] += seconds
            pace.answered(seconds)
            pace.waits(waiting - 1)

    assert pace.room(2.0) > 1000
    answers(1, 0.02, waiting=1)
    answers(100, 0.1, waiting=1)
    assert pace.room(2.0) == pytest.approx(80)  # of the quickest
    answers(1, 0.005, waiting=40)
    assert pace.room(2.0) == pytest.approx(160)  # of those that waited together
    answers(100, 0.05, waiting=40)
    assert pace.room(2.0) == pytest.approx(16)
    answers(100, 0.1, waiting=1)
    assert pace.room(2.0) == pytest.approx(16)
