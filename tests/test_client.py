"""The client, against a live service where there is one and against made-up answers where it fails."""
from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from serve import client as module
from serve.client import (
    AsyncNextWords,
    BadRequest,
    ConnectionFailed,
    InvalidAnswer,
    NextWords,
    NextWordsError,
    ServerError,
    Timeout,
    Unavailable,
)
from tests.servers import PATIENCE, ROOT

ANSWER = {"model": "tiny", "words": [{"word": "sea", "probability": 0.5, "logprob": -0.6931471805599453}]}


def ask(client_class: type, base_url: str, *arguments, **options):
    """Asks once with either client."""
    settings = {"timeout": options.pop("timeout", PATIENCE), "transport": options.pop("transport", None)}

    async def ask_async():
        async with AsyncNextWords(base_url, **settings) as client:
            return await client.next_words(*arguments, **options)

    if client_class is AsyncNextWords:
        return asyncio.run(ask_async())
    with NextWords(base_url, **settings) as client:
        return client.next_words(*arguments, **options)


both = pytest.mark.parametrize("client_class", [NextWords, AsyncNextWords])


def test_import_needs_neither_torch_nor_litserve():
    blocked = ["torch", "litserve", "fastapi", "starlette", "uvicorn", "tokenizers", "numpy", "lm", "training"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import serve.client"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE)


@both
def test_answers_are_the_services(client_class, server, http):
    question = {"text": "I went to the", "k": 7, "partial": "s", "punctuation": True, "exclude": ["sea"]}
    answer = ask(client_class, server.url, "I went to the", 7, partial="s", punctuation=True, exclude=("sea",))
    assert answer.model_dump() == http.post("/v1/next-words", json=question).json()
    assert answer.words[0].word.startswith("s")
    assert 0 < answer.words[0].probability <= 1


@both
def test_empty_text_is_the_default(client_class, server, http):
    assert ask(client_class, server.url).model_dump() == http.post("/v1/next-words", json={"text": ""}).json()


@both
@pytest.mark.parametrize(
    ("arguments", "where"), [(("", 0), "k"), ((None,), "text"), (("\ud800",), "text"), (("", float("nan")), "k")], ids=str
)
def test_refusal_says_what_the_service_says(client_class, server, arguments, where):
    with pytest.raises(BadRequest, match=f"^{where}: ") as refusal:
        ask(client_class, server.url, *arguments)
    assert (refusal.value.status, refusal.value.type, refusal.value.where) == (422, "invalid_request", where)


def test_exclude_takes_words_and_not_a_string(server):
    with NextWords(server.url) as client, pytest.raises(TypeError, match="several words"):
        client.next_words("I went to the", exclude="sea")


@both
def test_no_service(client_class):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=address):
        ask(client_class, address)


@both
@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://[::1"])
def test_wrong_address(client_class, address):
    with pytest.raises(ConnectionFailed):
        ask(client_class, address)


@both
def test_no_answer_in_time(client_class):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(Timeout, match="did not answer"):
            ask(client_class, f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)


@both
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, {"error": {"type": "internal_error", "message": "it failed"}}, ServerError),
        (503, {"error": {"type": "unavailable", "message": "it failed"}}, Unavailable),
        (504, {"error": {"type": "deadline_passed", "message": "it failed"}}, Unavailable),
        (413, {"error": {"type": "too_large", "message": "it failed"}}, BadRequest),
        (200, {"words": "none"}, InvalidAnswer),
        (200, "<html>a router's login page</html>", InvalidAnswer),
        (502, "<html>Bad Gateway</html>", InvalidAnswer),
        (302, "", InvalidAnswer),
    ],
)
def test_each_failure_has_its_error(client_class, status, body, expected):
    content = body if isinstance(body, str) else json.dumps(body)
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=content))
    with pytest.raises(NextWordsError, match="it failed" if "error" in body else str(status)) as failure:
        ask(client_class, "http://service", transport=transport)
    assert type(failure.value) is expected


@both
def test_newer_services_are_understood(client_class):
    newer = {**ANSWER, "unknown": ["Xyzzy"]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=newer))
    assert ask(client_class, "http://service", transport=transport).words[0].word == "sea"


def subclasses(root: type) -> list[type]:
    return [root, *(found for child in root.__subclasses__() for found in subclasses(child))]


@pytest.mark.parametrize("lower", subclasses(httpx.RequestError), ids=lambda error: error.__name__)
def test_each_error_below_has_one_here(lower):
    def fail(request):
        raise lower("why") if lower is not httpx.RequestError else httpx.RequestError("why")

    expected = Timeout if issubclass(lower, httpx.TimeoutException) else ConnectionFailed
    with pytest.raises(expected):
        ask(NextWords, "http://service", transport=httpx.MockTransport(fail))


def test_every_error_is_public_and_of_one_root():
    errors = [error for error in subclasses(NextWordsError) if not error.__name__.startswith("_")]
    assert len(errors) == 7
    assert {error.__name__ for error in errors} < set(module.__all__)


class Counting(BaseHTTPRequestHandler):
    """Answers all questions alike and counts the connections."""

    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self):
        super().setup()
        Counting.connections += 1

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_connection_is_kept_between_requests():
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as service:
        threading.Thread(target=service.serve_forever).start()
        with NextWords(f"http://127.0.0.1:{service.server_port}", timeout=PATIENCE) as client:
            for _ in range(5):
                client.next_words("the old man and the")
        service.shutdown()
    assert Counting.connections == 1
