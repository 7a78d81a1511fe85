"""Keys and rates as the clients and a browser meet them, and bounds on connections."""
from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import httpx
import openai
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from nextword.serve.client import NextWords, RateLimited, Unauthorized
from nextword.serve.engine import http_server
from nextword.serve.engine.http_server import HEADERS_LIMIT, Connection, HTTPServer
from nextword.serve.settings import Settings
from nextword.serve.web.app import build_app
from nextword.serve.web.middleware.body_limit import BODY_LIMIT
from tests.service_fixtures import PATIENCE, serving, wait_until
from tests.test_routes import FakeDispatcher, example

KEYS = ["the-first-key-of-two", "the-second-key-of-two"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text("\n".join(KEYS))
    with serving(folder, tiny_bundle, "--api-keys-file", str(folder / "keys"), "--rate-limit", "40/hour") as server:
        yield server


def test_clients_learn_that_their_key_is_wrong(guarded):
    with NextWords(guarded.url, timeout=PATIENCE) as client, pytest.raises(Unauthorized, match="an API key is needed"):
        client.next_words("I")
    with NextWords(guarded.url, api_key=KEYS[0], timeout=PATIENCE) as client:
        assert client.next_words("I went", k=1).words
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="a-wrong-key-altogether", timeout=PATIENCE) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.completions.create(model="tiny", prompt="I")
        assert refused.value.code == "invalid_api_key"


def test_clients_learn_that_they_ask_too_much(guarded):
    with NextWords(guarded.url, api_key=KEYS[1], timeout=PATIENCE) as client:
        with pytest.raises(RateLimited, match="40 per 1 hour"):
            for _ in range(41):
                client.next_words("I")
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=KEYS[1], max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            client.completions.create(model="tiny", prompt="I")
        assert refused.value.code == "rate_limit_exceeded"


def test_too_large_bodies_are_refused_before_they_have_come(server):
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (BODY_LIMIT + 1))
        assert connection.recv(1000)  # an answer, and not the wait for a body
    refused = httpx.post(f"{server.url}/v1/next-words", content=b"x" * (BODY_LIMIT + 1), timeout=PATIENCE)
    assert refused.status_code == 413


# The HTTP server, in this process, in front of the real application with a dispatcher of a few lines

POST = b"POST /v1/next-words HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
QUESTION = b'{"text": "I"}'
WHOLE = POST + b"content-length: %d\r\n\r\n" % len(QUESTION) + QUESTION
UNFINISHED = POST + b"content-length: 100\r\n\r\n{"


class SlowDispatcher(FakeDispatcher):
    async def ask(self, question):
        await asyncio.sleep(0.6 if question.text == "slow" else 0)
        return await super().ask(question)


@contextlib.contextmanager
def listening(**settings):
    """The HTTP server with these settings; its value connects, and sends some parts one after the other."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = build_app(SlowDispatcher(example), Settings(access_log=False, **settings))
    http = HTTPServer(app, listener.dup(), 1)
    thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]})
    thread.start()

    @contextlib.contextmanager
    def connected(*sent: bytes):
        with socket.create_connection(listener.getsockname(), timeout=PATIENCE) as connection:
            for part in sent:
                connection.sendall(part)
                time.sleep(0.01)
            yield connection

    yield connected
    http.should_exit = True
    thread.join()
    listener.close()
    http._listener.close()


@pytest.fixture(scope="module")
def connect():
    with listening() as connected:
        yield connected


def answers(connection: socket.socket) -> list[httpx.Response]:
    """All that comes until the connection is closed, as answers."""
    content, found = b"", []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            content += part
    while content:
        head, _, content = content.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        size = int(headers[b"content-length"])
        found.append(httpx.Response(int(status.split()[1]), headers=list(headers.items()), content=content[:size]))
        content = content[size:]
    return found


@pytest.mark.parametrize("trailers", [
    [b"x-t: 1\r\n" * (HEADERS_LIMIT // 4)], [b"x-t: ", *[b"y" * 20_000] * 5]], ids=["many", "one without an end"])
def test_trailers_are_bounded(connect, trailers):
    with connect(CHUNKED + b"d\r\n" + QUESTION + b"\r\n", b"0\r\n") as connection:
        with contextlib.suppress(OSError):
            for part in trailers:
                connection.sendall(part)
                time.sleep(0.02)
        assert [answer.status_code for answer in answers(connection)] in ([431], [])  # [] where it was reset


@pytest.mark.parametrize("together", [True, False])
def test_trailers_are_no_headers(connect, together):
    body = b"d\r\n" + QUESTION + b"\r\n0\r\ncontent-type: application/json\r\n\r\n"
    head = CHUNKED.replace(b"content-type: application/json\r\n", b"")
    sent = [head + body] if together else [head, body]
    with connect(*sent, b"GET /no HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n") as connection:
        assert [answer.status_code for answer in answers(connection)] == [415, 404]


@pytest.mark.parametrize(("sent", "status", "kind"), [
    (b"BREW / HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "invalid_http"),
    (b"GET http://[ HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    (b"GET / HTTP/1.1\r\nx: " + b"y" * (HEADERS_LIMIT + 1) + b"\r\n\r\n", 431, "too_large"),
    (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * HEADERS_LIMIT + b"\r\n", 431, "too_large"),
    (CHUNKED + b"no size\r\n", 400, "invalid_http"),
], ids=lambda value: repr(value)[:30])
def test_what_the_http_server_refuses_is_answered_like_all_else(connect, sent, status, kind):
    with connect(sent) as connection:
        (answer,) = answers(connection)
    assert (answer.status_code, answer.headers["connection"]) == (status, "close")
    assert answer.json()["error"].keys() == {"type", "message"} and answer.json()["error"]["type"] == kind
    assert len(answer.headers["x-request-id"]) == 32 and answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("second", [UNFINISHED, b"GET / HTTP/1.1\r\nx: ", b"BREW /\r\n\r\n"],
                         ids=["a body", "headers", "no HTTP"])
def test_a_second_request_that_is_refused_leaves_the_first_its_answer(connect, second, monkeypatch):
    monkeypatch.setattr(http_server, "CONNECTION_TIMEOUT", 0.2)
    monkeypatch.setattr(http_server, "CHECK_EVERY", 1)
    slow = POST + b"content-length: 16\r\n\r\n" + b'{"text": "slow"}'
    with connect(slow, second) as connection:
        (answer,) = answers(connection)
    assert answer.status_code == 200 and answer.json()["words"]


def test_the_http_server_itself_believes_no_forwarded_address():
    with listening(rate_limit="2/hour") as connect:
        statuses = []
        for number in range(3):
            forwarded = WHOLE.replace(b"\r\n\r\n", b"\r\nx-forwarded-for: 203.0.113.%d\r\n\r\n" % number)
            with connect(forwarded.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)) as connection:
                statuses += [answer.status_code for answer in answers(connection)]
    assert statuses == [200, 200, 429]


def test_unfinished_bodies_have_one_limit_together(connect, monkeypatch):
    monkeypatch.setattr(http_server, "HELD_LIMIT", 400_000)
    wait_until(lambda: Connection.held_by_all == 0, "an idle server")
    large = POST + b"content-length: 1000000\r\n\r\n" + b" " * 110_000
    with connect(WHOLE[:-1]) as small, connect(large), connect(large), connect(large, b" " * 90_000) as largest:
        assert [answer.status_code for answer in answers(largest)] == [503]
        small.sendall(WHOLE[-1:])
        assert small.recv(1000).startswith(b"HTTP/1.1 200")
        assert 220_000 < Connection.held_by_all < 240_000
    wait_until(lambda: Connection.held_by_all == 0, "that all is forgotten")


def test_the_page_and_the_documentation_work_with_a_key_under_their_policies(guarded, chromium):
    def see(condition, what: str):
        return WebDriverWait(chromium, PATIENCE, poll_frequency=0.05).until(lambda _: condition(), what)

    def seen(css: str):
        return chromium.find_elements(By.CSS_SELECTOR, css)

    address = guarded.url.replace("http://", f"http://anyone:{KEYS[0]}@")
    chromium.get_log("browser")
    chromium.get(f"{address}/page/icon.svg")  # as if the user had typed the key into the browser's dialog
    chromium.get(f"{guarded.url}/")
    chromium.find_element(By.ID, "text").send_keys("I went to the ")
    see(lambda: len(seen("#words button")) == 5, "suggestions")
    width = "return document.querySelector('#words .bar i').offsetWidth"
    assert chromium.execute_script(width) > 0  # which a script sets
    injected = ("const s = document.createElement('script'); s.textContent = 'window.injected = 1';"
                "document.body.append(s)")
    chromium.execute_script(injected)
    assert chromium.execute_script("return window.injected") is None
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"
            and "Content Security Policy" in entry["message"]]
    chromium.get(f"{guarded.url}/docs")
    see(lambda: len(seen(".opblock")) > 4, "the routes")
    assert [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
