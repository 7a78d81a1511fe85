"""Profiles over HTTP: real services, killed, reloaded, and with a store that fails."""
from __future__ import annotations

import asyncio
import contextlib
import doctest
import inspect
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

from nextword.lm.command import main
from nextword.serve import client_profiles
from nextword.serve.client import AsyncNextWords, BadRequest, NextWords
from nextword.serve.settings import Settings
from nextword.serve.web import profiles as web_profiles
from tests.harness.redis import Redis, find_redis
from tests.service_fixtures import PATIENCE, Service, serving, wait_until
from tests.torture import disks

KEYS = ["a-key-of-the-first-person", "a-key-of-the-second-person"]
TEXT = "We met Zofia Kowalczyk at the market. Zofia Kowalczyk went home."
needs_redis = pytest.mark.skipif(not find_redis(), reason="redis-server or the package redis is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="module")
def server(folder: Path, tiny_bundle: Path) -> Iterator[Service]:
    """A service with two workers, two keys, and few profiles."""
    keys = folder / "keys"
    keys.write_text("\n".join(KEYS))
    store = folder / "store"
    store.mkdir()
    options = ["--workers", "2", "--api-keys-file", str(keys), "--profiles", str(store / "profiles.sqlite"),
               "--profiles-limit", "20", "--profile-characters", "2000"]
    with serving(folder / "server", tiny_bundle, *options) as running:
        yield running


def asking(server: Service, key: str = KEYS[0]) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"x-api-key": key}, timeout=PATIENCE)


@pytest.fixture(scope="module")
def http(server: Service) -> Iterator[httpx.Client]:
    with asking(server) as client:
        yield client


@pytest.fixture
def me(http: httpx.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a profile that is there for one test alone."""
    path = f"/v1/profiles/{request.node.originalname.rpartition('_')[2]}-{id(request)}"
    yield path
    http.delete(path)


def words(http: httpx.Client, profile: str | None, text: str = "We met Zofia", **fields: Any) -> list[str]:
    """Return the next words of a text, without one that is offered only because it is typed; profile: a path."""
    question = {"text": text, **({"profile": profile.rpartition("/")[2]} if profile else {}), **fields}
    answer = http.post("/v1/next-words", json=question)
    assert answer.status_code == 200, answer.text
    return [word["word"] for word in answer.json()["words"] if word["kind"] != "typed"]


def learn(http: httpx.Client, profile: str, text: str = TEXT) -> str:
    answer = http.post(f"{profile}/text", json={"text": text})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def known(http: httpx.Client, profile: str | None, **fields: Any) -> list[str]:
    """Return what there is of the name of TEXT in the answers: itself, or nothing."""
    return words(http, profile, partial="kow", **fields)


def all_workers(http: httpx.Client, ask: Callable[[], list[str]]) -> set[tuple[str, ...]]:
    """Return the different answers to many questions at once, which go to every worker."""
    with ThreadPoolExecutor(8) as pool:
        return {tuple(answer) for answer in pool.map(lambda _: ask(), range(16))}


def test_every_worker_knows_a_text_at_the_next_question_and_no_more_when_it_is_taken_back(
    http: httpx.Client, me: str
) -> None:
    first, second = learn(http, me), learn(http, me)
    assert all_workers(http, lambda: known(http, me)) == {("Kowalczyk",)}
    assert known(http, None) == []
    assert http.delete(f"{me}/text/{first}").json() == {"removed": 1}
    assert all_workers(http, lambda: known(http, me)) == {("Kowalczyk",)}
    assert http.delete(f"{me}/text/{second}").status_code == 200
    assert all_workers(http, lambda: known(http, me)) == {()}
    assert words(http, me) == words(http, None)
    assert http.delete(f"{me}/text/{second}").json()["error"]["type"] == "no_such_text"


def test_a_forgotten_word_is_in_no_answer_and_in_no_file_until_it_is_taught(
    http: httpx.Client, server: Service, folder: Path, me: str
) -> None:
    text = "The station of Przemysl. I love Przemysl station, Przemysl’s too."
    for _ in range(2):
        learn(http, me, text)

    def ask() -> list[str]:
        return words(http, me, "I love", partial="prz")

    assert all_workers(http, ask) == {("Przemysl", "Przemysl’s")}
    assert http.delete(f"{me}/words/przemysl").json() == {"removed": 6}
    for _ in range(3):
        learn(http, me, text)
    assert all_workers(http, ask) == {()}
    assert words(http, me, "Przemysl! Oh Przemysl, I love", partial="prz", history=text) == []
    assert "Przemysl" not in words(http, me, "I love", partial="Przmysl", history=text), "nor as a correction"
    assert "Przemysl" not in http.post(
        "/v1/completions", json={"prompt": text, "profile": me[13:], "max_tokens": 50, "temperature": 0}
    ).text
    listed = http.get(f"{me}/words").text + http.get(f"{me}/export").text + http.get(me).text + server.output()
    files = [file.read_bytes().decode("latin-1") for file in (folder / "store").iterdir()]
    assert not any("przemysl" in content.lower() for content in [listed, *files])
    assert http.put(f"{me}/words/Przemysl").json() == {"word": "Przemysl"}
    assert all_workers(http, ask) == {("Przemysl",)}
    assert {"word": "Przemysl", "count": 3, "taught": True} in http.get(f"{me}/words").json()["words"]


def test_words_of_the_vocabulary_can_be_blocked_and_taught(http: httpx.Client, me: str) -> None:
    usual = words(http, None, "I went to the", k=3)
    http.put(me, json={})
    assert words(http, me, "I went to the", k=3) == usual
    http.delete(f"{me}/words/{usual[0].upper()}")
    assert usual[0] not in words(http, me, "I went to the", k=10)
    http.put(f"{me}/words/{usual[0]}")
    assert words(http, me, "I went to the", k=3)[0] == usual[0]


def test_own_words_and_sizes_are_told(http: httpx.Client, me: str) -> None:
    learn(http, me)
    http.put(f"{me}/words/pierogi")
    listed = {word["word"]: (word["count"], word["taught"]) for word in http.get(f"{me}/words").json()["words"]}
    assert listed["Kowalczyk"] == (2, False) and listed["pierogi"][1] and "market" not in listed
    summary = http.get(me).json()
    assert (summary["texts"], summary["words"], summary["taught"], summary["forgotten"]) == (1, 11, 1, 0)
    assert 0 <= summary["changed"] - summary["created"] < 3600


def test_scores_and_completions_know_the_person(http: httpx.Client, me: str) -> None:
    for _ in range(3):
        learn(http, me)
    name = me[13:]
    letters = http.post("/v1/next-letters", json={"text": "We met Zofia", "partial": "Kow", "profile": name}).json()
    assert letters["letters"][0]["letter"] == "a" and letters["letters"][0]["probability"] > 0.9
    ask = {"text": "We met Zofia Kowalczyk"}
    plain, own = (http.post("/v1/score", json={**ask, **more}).json() for more in ({}, {"profile": name}))
    assert own["logprob"] > plain["logprob"] + 3
    assert [word["word"] for word in own["words"]] == [word["word"] for word in plain["words"]]
    question = {"prompt": "We met Zofia", "max_tokens": 2, "temperature": 0}
    texts = [http.post("/v1/completions", json={**question, **more}).json()["choices"][0]["text"]
             for more in ({}, {"profile": name})]
    assert texts[1].startswith(" Kowalczyk") and not texts[0].startswith(" Kowalczyk")
    rated = http.post("/v1/completions", json={"prompt": ask["text"], "echo": True, "logprobs": 0, "max_tokens": 0,
                                               "profile": name}).json()["choices"][0]["logprobs"]
    assert sum(rated["token_logprobs"]) == pytest.approx(own["logprob"], abs=0.01)


def test_a_profile_moves_with_its_frequencies(http: httpx.Client, me: str) -> None:
    for _ in range(3):
        learn(http, me)
    http.put(f"{me}/words/pierogi")
    http.delete(f"{me}/words/Zofia")
    export = http.get(f"{me}/export").json()
    assert {"word": "Kowalczyk", "count": 6} in export["words"]
    assert export["taught"] == [{"word": "pierogi", "count": 3}]
    other = f"{me}-other"
    learn(http, other, "This is replaced.")
    loaded = http.put(other, json=export)
    assert loaded.status_code == 200, loaded.text
    assert loaded.json() == {**http.get(me).json(), "changed": loaded.json()["changed"]}
    assert words(http, other) == words(http, me) and "Zofia" not in words(http, other, "We met", k=100)
    again = http.get(f"{other}/export").json()
    assert {**again, "changed": 0} == {**export, "changed": 0}
    http.delete(other)


def test_a_profile_belongs_to_the_key_that_made_it(server: Service, http: httpx.Client, me: str) -> None:
    id = learn(http, me)
    question = {"text": "We met Zofia", "profile": me[13:]}
    with asking(server, KEYS[1]) as stranger:
        answers = [stranger.get(me), stranger.get(f"{me}/words"), stranger.get(f"{me}/export"), stranger.delete(me),
                   stranger.delete(f"{me}/text/{id}"), stranger.delete(f"{me}/words/Zofia"),
                   stranger.post("/v1/next-words", json=question), stranger.post("/v1/score", json=question),
                   stranger.post("/v1/next-letters", json=question),
                   stranger.post("/v1/completions", json={"prompt": "We met", "profile": me[13:]})]
        assert [(answer.status_code, answer.json()["error"].get("code") or answer.json()["error"]["type"])
                for answer in answers] == [(404, "no_such_profile")] * len(answers)
        learn(stranger, me, "Another person went to the beach.")
        assert stranger.get(me).json()["texts"] == 1
        assert stranger.delete(me).status_code == 200
    assert known(http, me)


@pytest.mark.parametrize(("method", "path", "body", "status", "kind", "where"), [
    ("POST", "/text", {"text": ""}, 422, "invalid_request", "text"),
    ("POST", "/text", {"text": "x" * 100_001}, 422, "invalid_request", "text"),
    ("POST", "/text", {"text": "A text.", "id": "with space"}, 422, "invalid_request", "id"),
    ("POST", "/text", {"text": "x" * 2001}, 409, "profile_full", None),
    ("DELETE", "/text/none", None, 404, "no_such_text", "id"),
    ("PUT", "/words/two%20words", None, 404, "not_found", "word"),
    ("PUT", "/words/" + "x" * 101, None, 422, "invalid_request", "word"),
    ("DELETE", "/words/!", None, 404, "not_found", "word"),
    ("DELETE", "/words/", None, 404, "not_found", "word"),
    ("PUT", "/words/%E2%80%8D", None, 404, "not_found", "word"),  # a joiner alone
    ("PUT", "/words/a%00", None, 404, "not_found", "word"),
    ("DELETE", "/words/%1B%5B2J", None, 404, "not_found", "word"),
    ("PUT", "/words/a%0A", None, 404, "not_found", "word"),
    ("DELETE", "/text/a%0A", None, 422, "invalid_request", "id"),
    ("PUT", "", {"version": 2}, 422, "invalid_request", "version"),
    ("PUT", "", {"taught": [{"word": "a\nb", "count": 1}]}, 422, "invalid_request", "taught.0.word"),
    ("PUT", "", {"taught": [{"word": "a\u001b[2J", "count": 1}]}, 422, "invalid_request", "taught.0.word"),
    ("PUT", "", {"taught": [{"word": "a", "count": -1}]}, 422, "invalid_request", "taught.0.count"),
    ("PUT", "", {"taught": [{"word": "a", "count": 10**30}]}, 422, "invalid_request", "taught.0.count"),
    ("PUT", "", b'{"taught": [{"word": "a", "count": NaN}]}', 422, "invalid_request", "taught.0.count"),
    ("PUT", "", b'{"taught": [{"word": "a", "count": 1e308}]}', 422, "invalid_request", "taught.0.count"),
    ("PUT", "", b'{"created": ' + b"9" * 5_000 + b"}", 400, "invalid_json", None),
    ("PUT", "", {"created": -1}, 422, "invalid_request", "created"),
    ("PUT", "", {"texts": [{"id": "a", "text": "x", "learned": 2**40}]}, 422, "invalid_request", "texts.0.learned"),
    ("PUT", "", b'{"texts": [{"id": "a", "text": "\\ud800", "learned": 1}]}', 422, "invalid_request", "texts.0.text"),
    ("PUT", "", b'{"texts": ' + b"[" * 100_000, 400, "invalid_json", None),
    ("PUT", "", {"forgotten": ["0123456789abcdef"] * 20_001}, 422, "invalid_request", "forgotten"),
    ("PUT", "", {"taught": [{"word": "two words", "count": 1}]}, 422, "invalid_request", "taught.0.word"),
    ("PUT", "", {"texts": [{"id": "a", "text": "x", "learned": 1}] * 2}, 409, "id_taken", "texts"),
    ("PUT", "", {"texts": [0] * 90_000}, 422, "invalid_request", "texts.0"),
    ("PUT", "", {"forgotten": ["Zofia"]}, 422, "invalid_request", "forgotten.0"),
    ("PUT", "", {"texts": [{"id": "a", "text": "x" * 3000, "learned": 1}]}, 409, "profile_full", None),
    ("PUT", "", b"[" + b" " * 8_000_000, 413, "too_large", None),
])
def test_what_cannot_be_kept_is_refused(
    http: httpx.Client, me: str, method: str, path: str, body: Any, status: int, kind: str, where: str | None
) -> None:
    learn(http, me, "One text.")
    content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    answer = http.request(method, me + path, **content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text
    if status != 400:
        assert answer.json()["error"].get("where") == where
    assert http.get(me).json()["texts"] == 1


def test_words_of_an_export_are_not_read(http: httpx.Client, me: str) -> None:
    """They are for other programs. A million of them takes no time, so that the service answers others."""
    body = b'{"words": [' + b",".join([b'{"word": "w", "count": 1}'] * 270_000) + b"]}"
    loaded = http.put(me, content=body, headers={"content-type": "application/json"})
    assert (loaded.status_code, loaded.json()["words"]) == (200, 0)
    assert http.put(me, json={"words": [{"word": "", "count": 1}]}).json()["error"]["where"] == "words.0.word"


def test_whole_numbers_may_be_written_with_a_point(http: httpx.Client, me: str) -> None:
    """In JSON Schema, 3.0 and 3e0 are integers."""
    body = (b'{"version": 1.0, "created": 5.0, "taught": [{"word": "pierogi", "count": 3e0}], '
            b'"texts": [{"id": "a", "text": "We met.", "learned": 7.0}], "words": [{"word": "We", "count": 1.0}]}')
    loaded = http.put(me, content=body, headers={"content-type": "application/json"})
    assert loaded.status_code == 200, loaded.text
    export = http.get(f"{me}/export").json()
    assert (export["created"], export["texts"][0]["learned"], export["taught"]) == (
        5, 7, [{"word": "pierogi", "count": 3}])
    refused = http.put(me, json={"taught": [{"word": "pierogi", "count": 3.5}]})
    assert refused.status_code == 422 and refused.json()["error"]["where"] == "taught.0.count"


def test_the_openapi_document_says_which_words_are_taken(http: httpx.Client, me: str) -> None:
    document = http.get("/openapi.json").json()
    patterns = {parameter["schema"]["pattern"] for method in ("put", "delete")
                for parameter in document["paths"]["/v1/profiles/{name}/words/{word}"][method]["parameters"]
                if parameter["name"] == "word"}
    patterns.add(document["components"]["schemas"]["TaughtWord"]["properties"]["word"]["pattern"])
    (pattern,) = patterns
    for name, characters in (("L", "A-Za-zÀ-ɏא-תअ-ह"), ("M", "\u0300-\u036f\u093f\u20d0-\u20f0"), ("Nd", "0-9")):
        pattern = pattern.replace(f"\\p{{{name}}}", characters)  # Python has no names for them
    for word in ("abc", "Don’t", "well-known", "e\u0301", "1984", "_id", "צה״ל", "ג׳ורג׳", "हिन", "col·lecció"):
        assert re.search(pattern, word), word
        assert http.put(f"{me}/words/{quote(word)}").status_code == 200
    for other in ("two words", ".a", "-", "a-", "a--b", "\u0301", "_", "a״b", "a\u20e3", "a.b", "👍"):
        assert not re.search(pattern, other), other
        assert http.put(f"{me}/words/{quote(other)}").status_code == 404


def test_a_name_of_another_key_is_as_a_name_that_nobody_has(server: Service, http: httpx.Client, me: str) -> None:
    id = learn(http, me)
    with asking(server, KEYS[1]) as stranger:
        def answers(path: str) -> list[tuple[int, bytes, dict[str, str]]]:
            question = {"text": "We met", "profile": path[13:]}
            asked = [stranger.get(path), stranger.get(f"{path}/words"), stranger.get(f"{path}/export"),
                     stranger.delete(path), stranger.delete(f"{path}/text/{id}"),
                     stranger.delete(f"{path}/words/Zofia"),
                     stranger.post("/v1/next-words", json=question), stranger.head(path),
                     stranger.post("/v1/completions", json={"prompt": "We met", "profile": path[13:]})]
            return [(answer.status_code, answer.content, {name: value for name, value in answer.headers.items()
                                                          if name not in ("x-request-id", "date")}) for answer in asked]

        assert answers(me) == answers(f"{me}-of-nobody")


def test_names_are_plain_and_few(http: httpx.Client) -> None:
    for name in (".hidden", "a b", "x" * 65, "ä", "me%0A", "%E2%80%AEme", "a%00", "e\u0301"):
        assert http.post(f"/v1/profiles/{name}/text", json={"text": "A text."}).status_code == 422
        question = {"text": "", "profile": unquote(name)}
        assert http.post("/v1/next-words", json=question).json()["error"]["where"] == "profile"
    made = []
    while (answer := http.put(f"/v1/profiles/name-{len(made)}", json={})).status_code == 200:
        made.append(f"/v1/profiles/name-{len(made)}")
    assert (answer.status_code, answer.json()["error"]["type"], len(made)) == (507, "store_full", 20)
    for path in made:
        http.delete(path)


def test_nothing_of_it_is_in_log_and_metrics(server: Service, http: httpx.Client) -> None:
    learn(http, "/v1/profiles/very-private-name", "A Sekretny text.")
    http.delete("/v1/profiles/very-private-name/words/Sekretny")
    http.post("/v1/profiles/very-private-name/text", json={"text": ["Sekretny"]})
    http.get("/v1/profiles/very-private-name/other/Sekretny")
    http.delete("/v1/profiles/very-private-name")
    told = server.output() + http.get("/metrics").text
    assert "/v1/profiles/{name}/text" in told
    assert "very-private-name" not in told and "sekretny" not in told.lower()


# ---- Faults


def keep_learning(server: Service, learned: list[str], stop: threading.Event) -> None:
    """Learn numbered texts until the service is gone; note the ids of those that it acknowledged."""
    with asking(server) as http:
        while not stop.is_set():
            try:
                answer = http.post("/v1/profiles/me/text", json={"text": f"Text {len(learned)} of Zofia Kowalczyk."})
            except httpx.HTTPError:
                return
            if answer.status_code == 200:
                learned.append(answer.json()["id"])


def test_what_was_acknowledged_outlives_kill_9_and_a_reload(tiny_bundle: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "profiles.sqlite")
    learned: list[list[str]] = [[], []]  # of two clients at once
    with serving(tmp_path / "killed", tiny_bundle, "--profiles", store) as service:
        stop = threading.Event()
        threads = [threading.Thread(target=keep_learning, args=(service, ids, stop)) for ids in learned]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(len(ids) > 20 for ids in learned), "some learned texts")
        service.signal(signal.SIGKILL, to_group=True)
        for thread in threads:
            thread.join()
        service.kill()
    with serving(tmp_path / "next", tiny_bundle, "--profiles", store) as service, asking(service) as http:
        def kept() -> list[str]:
            return [text["id"] for text in http.get("/v1/profiles/me/export").json()["texts"]]

        acknowledged = {id for ids in learned for id in ids}
        assert acknowledged <= set(kept()) and len(kept()) <= len(acknowledged) + 2
        assert known(http, "/v1/profiles/me")
        worker = service.worker()
        service.signal(signal.SIGHUP)
        wait_until(lambda: not worker.is_running(), "the new workers")
        assert acknowledged <= set(kept())
        assert known(http, "/v1/profiles/me")


def test_a_full_disk_and_a_damaged_file_are_told_and_the_rest_goes_on(tiny_bundle: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    mountable = disks.no_mount(tmp_path) is None
    with disks.small_disk(disk, "size=2m") if mountable else contextlib.nullcontext(disk):
        disk.mkdir(exist_ok=True)
        file = disk / "profiles.sqlite"
        with serving(tmp_path / "service", tiny_bundle, "--profiles", str(file)) as service, asking(service) as http:
            kept = [learn(http, "/v1/profiles/me")]
            if mountable:
                fill_disk(http, kept)
            for name in ("me", "other"):
                kept.append(learn(http, f"/v1/profiles/{name}"))
            http.delete("/v1/profiles/other")  # this empties the write-ahead log too
            damage(http, file)


def fill_disk(http: httpx.Client, kept: list[str]) -> None:
    """Learn until the disk is full; then make room."""
    while (answer := http.post("/v1/profiles/me/text", json={"text": TEXT * 300})).status_code == 200:
        kept.append(answer.json()["id"])
    assert (answer.status_code, answer.json()["error"]["type"]) == (507, "store_full"), answer.text
    assert "the disk is full" in answer.text and len(kept) > 3
    assert [text["id"] for text in http.get("/v1/profiles/me/export").json()["texts"]] == kept
    assert known(http, "/v1/profiles/me")
    for id in kept[1:]:
        assert http.delete(f"/v1/profiles/me/text/{id}").status_code == 200
    del kept[1:]


def damage(http: httpx.Client, file: Path) -> None:
    """Change a text in the file, and put a copy of the file back."""
    content = file.read_bytes()
    other = file.with_name("other")
    other.write_bytes(content.replace(b"at the market", b"at the margin"))
    other.replace(file)  # so that no page of the file is in memory
    for answer in (http.get("/v1/profiles/me/export"), http.delete("/v1/profiles/me/words/Zofia"),
                   http.post("/v1/next-words", json={"text": "We met", "profile": "me"})):
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "store_damaged"), answer.text
        assert "put back a copy" in answer.text
    assert words(http, None)
    other.write_bytes(content)
    other.replace(file)
    assert known(http, "/v1/profiles/me")


def test_a_store_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    for place, message in (("", "is no regular file"), ("missing/profiles", "profiles cannot be kept in"),
                           ("text", "is damaged, or no file of profiles")):
        command = [sys.executable, "-m", "nextword.serve", "--bundle", str(tiny_bundle), "--port", "0"]
        run = subprocess.run([*command, "--profiles", str(tmp_path / place)], capture_output=True, text=True)
        (line,) = run.stderr.splitlines()
        assert run.returncode == 2 and line.startswith("nextword serve: ") and message in line


@needs_redis
def test_services_share_a_redis_that_may_be_gone_for_a_while(tiny_bundle: Path, tmp_path: Path) -> None:
    with Redis(tmp_path) as redis:
        options = ("--profiles", redis.address)
        with serving(tmp_path / "1", tiny_bundle, *options) as first, \
                serving(tmp_path / "2", tiny_bundle, *options) as second, \
                asking(first) as one, asking(second) as two:
            me = "/v1/profiles/me"
            learned = [learn(one, me), learn(two, me)]
            assert known(one, me) == known(two, me) == ["Kowalczyk"]
            redis.kill()
            question = {"text": "We met Zofia", "profile": "me"}
            for answer in (one.post(f"{me}/text", json={"text": "A text."}), two.get(me), one.delete(me),
                           two.post("/v1/next-words", json=question)):
                assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable"), answer.text
                assert answer.headers["retry-after"] == "1"
            assert words(one, None)
            redis.start()
            wait_until(lambda: one.get(me).status_code == 200 and two.get(me).status_code == 200, "redis is back")
            assert [text["id"] for text in one.get(f"{me}/export").json()["texts"]] == learned
            assert known(two, me)
            redis.stop()  # it hangs: nobody else may wait for it
            with ThreadPoolExecutor(4) as pool:
                hanging = [pool.submit(two.post, "/v1/next-words", json=question) for _ in range(4)]
                assert words(two, None)
                assert {answer.result().status_code for answer in hanging} == {503}
            redis.resume()
            wait_until(lambda: words_or_status(two, question) == 200, "redis answers again")
            assert one.delete(f"{me}/words/Kowalczyk").json() == {"removed": 4}
            assert known(two, me) == known(one, me) == []
            assert first.faults() == second.faults() == []


def words_or_status(http: httpx.Client, question: dict[str, Any]) -> int:
    return http.post("/v1/next-words", json=question).status_code


# ---- Without a server


def test_notes_of_use_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks with ever new names makes no queue, and no list that grows."""
    monkeypatch.setattr(web_profiles, "TOUCHED_LIMIT", 5)
    monkeypatch.setattr(web_profiles, "PENDING_LIMIT", 3)
    profiles = web_profiles.Profiles(Settings(profiles=str(tmp_path / "profiles.sqlite"), profiles_drop=True))
    touched, go = [], threading.Event()
    monkeypatch.setattr(profiles.store, "touch", lambda key: touched.append(key) if go.wait(PATIENCE) else None)

    async def ask() -> None:
        for number in range(20):
            profiles.key(f"name-{number}")
        assert len(profiles._touched) == 5
        profiles.key("name-19")  # was noted less than an hour ago
        go.set()

    asyncio.run(ask())
    profiles.close()
    assert sorted(touched) == ["/name-0", "/name-1", "/name-2"]


def test_predict_keeps_a_profile_in_a_file_that_the_service_loads(
    http: httpx.Client, me: str, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "me.json"

    def predict(*options: str) -> str:
        assert main(["predict", "--bundle", str(tiny_bundle), "--profile", str(file), *options]) == 0
        return capsys.readouterr().out

    predict("--learn", "--", f"{TEXT} {TEXT}")
    assert file.stat().st_mode & 0o777 == 0o600
    assert predict("--partial", "kow", "We met Zofia").startswith("Kowalczyk")
    assert predict("--forget", "kowalczyk", "--teach", "pierogi") == ""
    assert "kowalczyk" not in file.read_text().lower()
    assert predict("--learn", "--partial", "kowalczyk", "Kowalczyk! Kowalczyk! Zofia") == ""
    assert http.put(me, content=file.read_bytes(), headers={"content-type": "application/json"}).json()["texts"] == 2
    assert known(http, me) == [] and words(http, me, partial="pie") == ["pierogi"]
    http.put(f"{me}/words/Kowalczyk")
    file.write_bytes(http.get(f"{me}/export").content)
    assert predict("--partial", "kow", "We met Zofia").startswith("Kowalczyk")
    file.write_text('{"format": "another"}')
    assert main(["predict", "--profile", str(file), "We met"]) == 2
    assert capsys.readouterr().err.startswith(f"nextword predict: {file} is no profile: format: ")
    for count in ("-5", "1" + "0" * 30, "1e308", "NaN"):
        taught = '"taught": [{"word": "a", "count": ' + count + "}]"
        file.write_text('{"format": "nextword-profile", "version": 1, ' + taught + "}")
        assert main(["predict", "--profile", str(file), "We met"]) == 2
        assert "is no profile: " in capsys.readouterr().err
    file.write_text('{"format": "another"}')
    assert main(["predict", "--teach", "word"]) == 2
    assert file.read_text() == '{"format": "another"}'


# ---- The client


def test_the_client_teaches_and_asks(server: Service) -> None:
    with NextWords(server.url, api_key=KEYS[0], timeout=PATIENCE) as client:
        me = client.profile("client")
        learned = me.learn(TEXT)
        assert me.learn(TEXT, learned.id) == learned and me.summary().texts == 1
        me.learn(TEXT)
        me.learn(TEXT)
        assert client.next_words("We met Zofia", partial="Ko", profile=me).words[0].word == "Kowalczyk"
        assert client.next_words_each(["We met Zofia"], partial="Ko", profile="client")[0].words[0].word == "Kowalczyk"
        assert client.score(TEXT, profile=me).logprob > client.score(TEXT).logprob
        assert client.complete("We met Zofia", profile=me, max_tokens=1, temperature=0).choices[0].text == " Kowalczyk"
        assert [*client.stream("We met Zofia", profile=me, max_tokens=1, temperature=0)] == [" Kowalczyk"]
        assert [word.word for word in me.words().words][:2] == ["Kowalczyk", "Zofia"]
        assert me.undo(learned).removed == me.forget("Zofia").removed - 3 == 1
        assert me.teach("Zofia").word == "Zofia"
        export = me.export()
        assert me.delete().removed == 1
        with pytest.raises(BadRequest, match="no such profile") as raised:
            me.words()
        assert (raised.value.status, raised.value.type, raised.value.where) == (404, "no_such_profile", "profile")
        assert me.load(export).texts == 2
        me.delete()


def test_the_asynchronous_client_does_the_same(server: Service) -> None:
    async def use() -> None:
        async with AsyncNextWords(server.url, api_key=KEYS[0], timeout=PATIENCE) as client:
            me = client.profile("async")
            texts = await asyncio.gather(*(me.learn(f"{TEXT} Text {number}.") for number in range(10)))
            assert (await me.summary()).texts == 10
            assert (await client.next_words("We met Zofia", partial="Ko", profile=me)).words[0].word == "Kowalczyk"
            await asyncio.gather(*(me.undo(text) for text in texts))
            export = await me.export()
            assert export.texts == [] and (await me.load(export)).texts == 0
            await me.teach("pierogi")
            assert [word.word for word in (await me.words()).words] == ["pierogi"]
            await me.forget("pierogi")
            await me.delete()

    asyncio.run(use())


def test_the_examples_of_the_client_are_true(server: Service) -> None:
    source = (inspect.getdoc(client_profiles.Profile) or "").replace("http://127.0.0.1:8000", server.url)
    source = source.replace(f'"{server.url}"', f'"{server.url}", api_key="{KEYS[0]}"')
    test = doctest.DocTestParser().get_doctest(source, {}, "Profile", None, None)
    result = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test)
    assert (result.failed, result.attempted > 2) == (0, True)
