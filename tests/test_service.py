"""The service as its users meet it: over HTTP, and as a program that is started and stopped."""
from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import httpx
import pytest

from nextword.lm import malloc
from nextword.serve import logs
from nextword.serve.engine.admission import Admission
from nextword.serve.engine.frames import Frame, FrameReader, Kind, frame, pack, unpack
from nextword.serve.engine.links import Links
from nextword.serve.questions import Counts, NextWordsQuestion, RateQuestion
from nextword.serve.schemas import CONTEXT_LIMIT, TEXT_LIMIT
from nextword.serve.worker.completions import Completions
from nextword.serve.worker.distributions import Distributions
from nextword.serve.worker.lit_api import TRIM_SECONDS, NextWordsAPI, grouped
from nextword.serve.worker.next_words import NextWords
from nextword.serve.worker.state_cache import StateCache
from tests.service_fixtures import PATIENCE, ROOT, started, wait_until

PATH = "/v1/next-words"
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
    good = NextWordsQuestion("I went")
    bad = NextWordsQuestion("a secret", partial=None)  # the service would refuse it
    results = api.predict([good, bad, good])
    assert isinstance(results[1], Exception)
    assert results[0] == results[2] == api.predict([good])[0]
    assert "secret" not in caplog.text


def test_costly_questions_let_cheap_ones_pass(tiny_bundle):
    api = NextWordsAPI(tiny_bundle)
    api.setup("cpu")
    costly = NextWordsQuestion("I went", k=100, max_words=10, exclude=[f"word {n}" for n in range(1000)])
    cheap = NextWordsQuestion("")
    assert costly.cost > 100 and cheap.cost == 1
    assert list(api.groups([costly] * 6 + [cheap] * 2)) == [[6, 7], [0, 1]]
    assert list(api.groups([NextWordsQuestion("I " * 5000), *[costly] * 4, cheap])) == [[5], [1, 2], [0]]


def test_excluded_words_cost_a_ranking_little(tiny_model, monkeypatch):
    compared = []
    monkeypatch.setattr("nextword.lm.ranking.key", lambda word: compared.append(word) or word.lower())
    question = NextWordsQuestion("I went", k=5, max_words=10, exclude=[f"Word{n}" for n in range(1000)])
    NextWords(tiny_model, Distributions(tiny_model, StateCache(tiny_model))).answer([question])
    assert compared.count("Word1") == 1


def test_without_a_cache_no_prompt_is_kept_for_another_request(tiny_model, monkeypatch):
    read = []
    before_each = tiny_model.before_each
    monkeypatch.setattr(tiny_model, "before_each", lambda *given: read.append(1) or before_each(*given))
    for cache_bytes, times in ((1_000_000, 1), (0, 2)):
        read.clear()
        completions = Completions(tiny_model, StateCache(tiny_model, cache_bytes))
        answers = [completions.rate(RateQuestion("I went to", first, 1, owner))
                   for first, owner in ((0, "a"), (1, "a"), (0, "b"))]
        assert len(read) == times and answers[0] == answers[2]


def test_groups_are_of_like_length_and_within_the_budget():
    lengths = [900, 10, 1000, 0, 5000, 20, 950, 30]
    groups = list(grouped(lengths, budget=3000))
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert [[lengths[place] for place in group] for group in groups] == [[0, 10, 20, 30], [900, 950, 1000], [5000]]


# Health and documentation


def test_health_says_ready(http, tiny_model):
    assert http.get("/health").json() == {"status": "ready", "model": tiny_model.name}


# The program


def test_nothing_is_written_to_the_working_directory(server, http):
    words(http, text="")
    assert list(server.folder.iterdir()) == []


def test_a_worker_that_nobody_asks_gives_freed_memory_back_once(tiny_bundle, monkeypatch):
    monkeypatch.setattr(logs, "configure", lambda: None)  # the tests' own
    monkeypatch.setattr(malloc, "keep_little_freed", lambda: None)
    api = NextWordsAPI(tiny_bundle)
    api.setup("cpu")
    given_back = []
    monkeypatch.setattr(malloc, "give_back", lambda: given_back.append(1))
    ours, theirs = socket.socketpair()
    worker = Thread(target=api.loop, args=(api, "cpu", 0, None, theirs, None, None))
    worker.start()
    frames, received = FrameReader(), []

    def answer_to(kind: Kind, number: int = 0, content: bytes = b"") -> bytes:
        ours.sendall(frame(kind, number, content))
        expected = Kind.ANSWER if kind == Kind.QUESTION else kind
        while not [one for one in received if one.kind == expected]:
            received.extend(frames.add(ours.recv(1000)))
        *_, answer = [one for one in received if one.kind == expected]
        received.clear()
        assert answer.number == number
        return answer.content

    with theirs, ours:
        assert frames.add(ours.recv(1000)) == [(Kind.READY, 0, api.model.encode())]
        question, _ = pack(NextWordsQuestion("They walked to"))
        for expected in (1, 2):

            def given_back_again(times: int = expected) -> bool:
                answer_to(Kind.SIGN_OF_LIFE)
                return len(given_back) == times

            assert b"probability" in answer_to(Kind.QUESTION, expected, question)
            for _ in range(TRIM_SECONDS - 1):
                answer_to(Kind.SIGN_OF_LIFE)
            assert len(given_back) == expected - 1
            # More signs may be needed: those that come while the worker looks whether there is a question do not count.
            wait_until(given_back_again, "freed memory to be given back")
            for _ in range(3 * TRIM_SECONDS):
                answer_to(Kind.SIGN_OF_LIFE)
                time.sleep(0.01)
            assert len(given_back) == expected
        ours.shutdown(socket.SHUT_RDWR)
        worker.join(PATIENCE)
        assert not worker.is_alive()


def test_a_text_that_questions_share_goes_to_a_worker_once_and_is_forgotten():
    async def frames_sent() -> list[Frame]:
        links = Links("tiny", 1, lambda counts: None)
        ours, theirs = socket.socketpair()
        with theirs:
            await links.connect(ours, 0, os.getpid())
            theirs.sendall(frame(Kind.READY, content=b"tiny"))
            history = links.share("I went to the Zorbulon.")
            numbers = [links.ask(NextWordsQuestion(f"{n}", history))[0] for n in range(2)]
            while not links.cache_bytes:  # the worker is taken on, and then has counted something
                theirs.sendall(frame(Kind.COUNTS, content=Counts("next_words", 1, 0, 0, 5).to_json()))
                await asyncio.sleep(0.01)
            for number in numbers:
                links.close(number)
            links.unshare(history)
            await asyncio.sleep(0.01)
            sent = FrameReader().add(theirs.recv(10_000))
        while links.cache_bytes:  # until the end of the worker is noticed
            await asyncio.sleep(0.01)
        return sent

    text, *questions, forget_one, forget_other, forget_text = asyncio.run(frames_sent())
    assert (text.kind, text.content) == (Kind.TEXT, b"I went to the Zorbulon.")
    assert [unpack(one.content, {text.number: "the history"}).text for one in questions] == ["0", "1"]
    assert {unpack(one.content, {text.number: "the history"}).history for one in questions} == {"the history"}
    assert {one.kind for one in (forget_one, forget_other, forget_text)} == {Kind.FORGET}
    assert forget_text.number == text.number


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
        ("--host", "no.such.host.invalid"),
        ("--colour", "red"),
    ],
    ids=" ".join,
)
def test_bad_values_are_one_line(tiny_bundle, options):
    status, message = run("--bundle", str(tiny_bundle), *options)
    assert status == 2
    assert message.count("\n") == 1
    assert any(option in message for option in options)
    assert options[0] == "--colour" or options[0] in message


def test_stopping_while_it_starts_is_clean(tiny_bundle, tmp_path):
    with started(tmp_path, tiny_bundle) as server:
        wait_until(server.children, "the first child")
        server.process.terminate()
        assert server.process.wait(timeout=20) == 0
        assert wait_until(lambda: not server.group(), "the end of all processes", 5)
        assert [line for line in server.log.read_text().splitlines() if " INFO " not in line] == []


def test_slow_answers_one_at_a_time_do_not_keep_many_quick_ones_out(monkeypatch):
    admission, clock = Admission(), [0.0]
    monkeypatch.setattr("nextword.serve.engine.admission.time.monotonic", lambda: clock[0])

    def answers(times, seconds, waiting):
        for _ in range(times):
            admission.queue_is(waiting)
            clock[0] += seconds
            admission.answered(seconds)
            admission.queue_is(waiting - 1)

    assert admission.limit(2.0) > 1000
    answers(1, 0.02, waiting=1)
    answers(100, 0.1, waiting=1)
    assert admission.limit(2.0) == pytest.approx(80)  # of the quickest
    answers(1, 0.005, waiting=40)
    assert admission.limit(2.0) == pytest.approx(160)  # of those that waited together
    answers(100, 0.05, waiting=40)
    assert admission.limit(2.0) == pytest.approx(16)
    answers(100, 0.1, waiting=1)
    assert admission.limit(2.0) == pytest.approx(16)


def test_costly_questions_leave_room_for_short_ones(monkeypatch):
    admission, clock = Admission(), [0.0]
    monkeypatch.setattr("nextword.serve.engine.admission.time.monotonic", lambda: clock[0])
    admission.queue_is(200)
    clock[0] += 0.4
    admission.answered(0.4, cost=200)
    assert admission.limit(2.0) == pytest.approx(400)  # 2 ms for a short one
    assert admission.admits(180, 0, 2.0) and admission.admits(180, 20, 2.0)
    assert not admission.admits(180, 21, 2.0)
    assert admission.admits(1, 399, 2.0) and not admission.admits(1, 400, 2.0)
    assert admission.admits(1000, 0, 2.0)
    assert admission.admits(1, 1000, 2.0, costly=1000), "it was admitted alone, and keeps no short one out"
    assert admission.admits(1, 1199, 2.0, costly=1000) and not admission.admits(1, 1200, 2.0, costly=1000)
