"""The client, against a live service where there is one and against made-up answers where it fails."""
from __future__ import annotations

import asyncio
import doctest
import inspect
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from nextword.serve import client as module
from nextword.serve.client import (
    AsyncNextWords,
    BadRequest,
    ConnectionFailed,
    InvalidAddress,
    InvalidAnswer,
    NextWords,
    NextWordsError,
    RateLimited,
    ServerError,
    Timeout,
    Unauthorized,
    Unavailable,
)
from tests.service_fixtures import PATIENCE, ROOT

ANSWER = {"model": "tiny", "words": [{"word": "sea", "probability": 0.5, "logprob": -0.6931471805599453}]}


def ask(client_class: type, base_url: str, *arguments, method: str = "next_words", **options):
    """Asks once with either client; a stream's pieces come as a list."""
    settings = {name: options.pop(name) for name in ("timeout", "transport", "retries", "api_key") if name in options}
    settings = {"timeout": PATIENCE, "retries": 0, **settings}

    async def ask_async():
        async with AsyncNextWords(base_url, **settings) as client:
            if method == "stream":
                return [piece async for piece in client.stream(*arguments, **options)]
            return await getattr(client, method)(*arguments, **options)

    if client_class is AsyncNextWords:
        return asyncio.run(ask_async())
    with NextWords(base_url, **settings) as client:
        answer = getattr(client, method)(*arguments, **options)
        return list(answer) if method == "stream" else answer


both = pytest.mark.parametrize("client_class", [NextWords, AsyncNextWords])


def test_import_needs_neither_torch_nor_litserve():
    blocked = ["torch", "litserve", "fastapi", "starlette", "uvicorn", "tokenizers", "numpy", "nextword.training"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); from nextword.serve.client import split_typed; "
    code += "assert split_typed('He is well\\u2011kn') == ('He is ', 'well\\u2011kn')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE)


@both
def test_answers_are_the_services(client_class, server, http):
    question = {"text": "I went to the", "k": 7, "partial": "s", "punctuation": True, "exclude": ["sea"]}
    answer = ask(client_class, server.url, "I went to the", 7, partial="s", punctuation=True, exclude=("sea",))
    assert answer.model_dump() == http.post("/v1/next-words", json=question).json()
    assert answer.words[0].word.startswith("s")
    assert 0 < answer.words[0].probability <= 1


@both
def test_every_field_goes_to_the_service(client_class, server, http):
    fields = {
        "text": "Thank",
        "partial": "Y",
        "emoji": True,
        "history": "Zorbulon came.",
        "max_words": 3,
        "exclude": ["sea"],
        "k": 3,
        "typos": True,
        "layout": {"y": [0, 0], "u": [1, 0]},
    }
    assert ask(client_class, server.url, **fields).model_dump() == http.post("/v1/next-words", json=fields).json()


@both
def test_several_texts_are_one_request(client_class, server):
    answers = ask(client_class, server.url, ["Thank", "I went to the"], 2, method="next_words_each", partial="s")
    assert answers == [ask(client_class, server.url, text, 2, partial="s") for text in ("Thank", "I went to the")]


@both
def test_next_letters_are_the_services(client_class, server, http):
    fields = {"text": "Thank", "partial": "y", "history": "Zorbulon came."}
    letters = ask(client_class, server.url, **fields, method="next_letters")
    assert letters.model_dump() == http.post("/v1/next-letters", json=fields).json()


@both
def test_scores_are_the_services(client_class, server, http):
    score = ask(client_class, server.url, "Thank you very much!", method="score")
    assert score.model_dump() == http.post("/v1/score", json={"text": "Thank you very much!"}).json()
    assert [word.word for word in score.words] == ["Thank", "you", "very", "much", "!"]
    assert score.logprob == pytest.approx(sum(word.logprob for word in score.words))


@both
def test_streamed_pieces_are_the_completion(client_class, server):
    wanted = {"max_tokens": 20, "temperature": 0.8, "seed": 7}
    whole = ask(client_class, server.url, "I went", method="complete", **wanted)
    pieces = ask(client_class, server.url, "I went", method="stream", **wanted)
    assert "".join(pieces) == whole.choices[0].text
    assert len(pieces) > 5
    assert whole.usage.completion_tokens == 20


@both
@pytest.mark.parametrize("method", ["complete", "stream"])
def test_completions_are_refused_with_the_place(client_class, server, method):
    with pytest.raises(BadRequest, match="temperature") as refusal:
        ask(client_class, server.url, "I went", method=method, temperature=9)
    assert (refusal.value.status, refusal.value.where) == (400, "temperature")


def test_doctests_are_true(server):
    parts = [module, *(part for kind in (NextWords, AsyncNextWords) for part in (kind, *vars(kind).values()))]
    examples = 0
    for part in parts:
        source = (
            (inspect.getdoc(part) or "").replace(module.BASE_URL, server.url)
            if getattr(part, "__module__", module.__name__) == module.__name__
            else ""
        )
        test = doctest.DocTestParser().get_doctest(
            source, vars(module).copy(), getattr(part, "__name__", ""), None, None
        )
        outcome = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test)
        assert outcome.failed == 0
        examples += outcome.attempted
    assert examples >= 10


@both
def test_empty_text_is_the_default(client_class, server, http):
    assert ask(client_class, server.url).model_dump() == http.post("/v1/next-words", json={"text": ""}).json()


@both
@pytest.mark.parametrize(
    ("arguments", "where"),
    [(("", 0), "k"), ((None,), "text"), (("\ud800",), "text"), (("", float("nan")), "k")],
    ids=str,
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
    with pytest.raises(InvalidAddress):
        ask(client_class, address, retries=2)


@both
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine_and_named_where_it_cannot_be_used(
    client_class, monkeypatch
):
    for proxy in ("http://127.0.0.1:9", "socks5://127.0.0.1:9", "what://127.0.0.1:9"):
        monkeypatch.setenv("ALL_PROXY", proxy)
        for address in ("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000", "http://127.3.2.1"):
            client = client_class(address)
            assert not client._http.trust_env
        if not proxy.startswith("http"):
            with pytest.raises(InvalidAddress, match="the proxy that the environment names"):
                client_class("http://words.example")
            continue
        with pytest.raises(ConnectionFailed, match="; the environment names a proxy"):
            ask(client_class, "http://words.example")


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
        (429, {"error": {"type": "rate_limited", "message": "it failed"}}, RateLimited),
        (401, {"error": {"type": "unauthorized", "message": "it failed"}}, Unauthorized),
        (403, {"error": {"type": "forbidden", "message": "it failed"}}, Unauthorized),
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


class Script:
    """A transport that answers or fails as it is told, one step a request."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        status, headers = step
        fault = {"error": {"type": "busy", "message": "it is busy"}}
        return httpx.Response(status, headers=headers, json=ANSWER if status == 200 else fault)


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses between tries, which take no time."""
    taken = []

    async def sleep(seconds: float):
        taken.append(seconds)

    monkeypatch.setattr(module.time, "sleep", taken.append)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return taken


@both
def test_what_passes_is_tried_again_after_growing_pauses(client_class, pauses):
    script = Script((503, {}), (429, {}), httpx.ConnectError("refused"), (200, {}))
    assert ask(client_class, "http://service", transport=httpx.MockTransport(script), retries=3).words[0].word == "sea"
    assert len({request.content for request in script.requests}) == 1
    for n, pause in enumerate(pauses):
        assert 0.1 * 2**n <= pause <= 0.15 * 2**n
    assert len(pauses) == 3


@both
def test_tries_are_bounded(client_class, pauses):
    script = Script(*[(503, {})] * 9)
    with pytest.raises(Unavailable, match="it is busy"):
        ask(client_class, "http://service", transport=httpx.MockTransport(script), retries=2)
    assert len(script.requests) == 3


@both
@pytest.mark.parametrize("method", ["next_words", "stream"])
@pytest.mark.parametrize("failure", [(422, {}), (401, {}), (500, {}), (504, {}), httpx.ReadTimeout("slow")], ids=str)
def test_what_stays_is_not_tried_again(client_class, pauses, failure, method):
    script = Script(failure, (200, {}))
    with pytest.raises(NextWordsError):
        ask(client_class, "http://service", "I", transport=httpx.MockTransport(script), retries=2, method=method)
    assert len(script.requests) == 1


@both
def test_pauses_are_as_long_as_the_service_asks_for(client_class, pauses):
    script = Script((503, {"Retry-After": "3"}), (200, {}))
    ask(client_class, "http://service", transport=httpx.MockTransport(script), retries=1)
    assert 3 <= pauses[0] <= 4.5
    script = Script((429, {"Retry-After": "3600"}), (200, {}))
    with pytest.raises(RateLimited) as refusal:
        ask(client_class, "http://service", transport=httpx.MockTransport(script), retries=1)
    assert refusal.value.retry_after == 3600


@both
def test_the_key_is_sent(client_class):
    script = Script((200, {}), (200, {}), (200, {}))
    ask(client_class, "http://service", transport=httpx.MockTransport(script), api_key="secret")
    ask(client_class, "http://service", transport=httpx.MockTransport(script))
    ask(client_class, "http://service", transport=httpx.MockTransport(script), api_key="schlüssel")
    assert [request.headers.get("authorization") for request in script.requests] == [
        "Bearer secret",
        None,
        "Bearer schlüssel",
    ]


@both
def test_echo_and_logprobs_are_the_services(client_class, server):
    wanted = {"max_tokens": 2, "temperature": 0, "echo": True, "logprobs": 3}
    choice = ask(client_class, server.url, "I went", method="complete", **wanted).choices[0]
    assert choice.text.startswith("I went ")
    assert "".join(choice.logprobs.tokens) == choice.text
    assert all(len(likeliest) == 3 for likeliest in choice.logprobs.top_logprobs[-2:])


def test_a_client_is_one_session_that_a_balancer_can_tell():
    script = Script(*[(200, {})] * 4)
    for _ in range(2):
        with NextWords("http://service", transport=httpx.MockTransport(script)) as client:
            client.next_words("I")
            client.next_words("I went")
    first, second = (request.headers["x-session"] for request in script.requests[1:3])
    assert [request.headers["x-session"] for request in script.requests] == [first, first, second, second]
    assert len(first) >= 16 and first != second


@both
def test_one_client_can_name_several_sessions(client_class):
    script = Script((200, {}))
    ask(client_class, "http://service", "I", transport=httpx.MockTransport(script), session="Zoë at 3:00")
    assert script.requests[0].headers["x-session"] == "Zo%C3%AB%20at%203%3A00"
    assert json.loads(script.requests[0].content) == {"text": "I"}


def event(text: str) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": None}
    completion = {"id": "cmpl-1", "object": "text_completion", "created": 0, "model": "tiny", "choices": [choice]}
    return b"data: " + json.dumps(completion, ensure_ascii=False).encode() + b"\n\n"


def streamed(*parts: bytes) -> httpx.MockTransport:
    """A service that sends these parts, one after the other."""

    class Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            yield from parts

        async def __aiter__(self):
            for part in parts:
                yield part

    return httpx.MockTransport(lambda request: httpx.Response(200, stream=Parts()))


@both
def test_streams_are_read_wherever_they_are_cut(client_class):
    whole = event(" “sea”\u2028") + b": a comment\n\n" + event(" ünd") + b"data: [DONE]\n\n"
    for size in (1, 7, len(whole)):
        transport = streamed(*(whole[at : at + size] for at in range(0, len(whole), size)))
        assert ask(client_class, "http://service", "I", method="stream", transport=transport) == [
            " “sea”\u2028",
            " ünd",
        ]


@both
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"", ConnectionFailed),
        (b"data: nonsense\n\n", InvalidAnswer),
        (b'data: {"error": {"type": "service_unavailable", "message": "it failed"}}\n\n', Unavailable),
        (b'data: {"error": {"type": "server_error", "message": "it failed"}}\n\n', ServerError),
    ],
)
def test_streams_that_break_off_are_errors_and_not_tried_again(client_class, pauses, rest, expected):
    with pytest.raises(expected) as failure:
        ask(client_class, "http://service", "I", method="stream", transport=streamed(event(" sea"), rest), retries=2)
    assert type(failure.value) is expected
    assert pauses == []


@both
def test_what_is_no_stream_is_an_invalid_answer(client_class):
    with pytest.raises(InvalidAnswer):
        ask(client_class, "http://service", "I", method="stream", transport=streamed(b"<html>"))


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
    assert len(errors) == 10
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
