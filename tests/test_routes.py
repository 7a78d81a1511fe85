"""The routes against a dispatcher of a few lines: their questions, refusals and errors. No process is started."""
from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import gzip
import json
import math
import re
import sys
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from starlette.testclient import TestClient

from nextword.serve.engine.faults import ClientGone, DeadlinePassed, Unavailable, WorkerFault
from nextword.serve.questions import NextWordsQuestion, RatedTokens, RateQuestion, ScoreQuestion, WrittenTokens
from nextword.serve.schemas import HISTORY_BLOCK, TEXT_BLOCK, TEXT_LIMIT, TEXTS_LIMIT, NextWordsResponse, ScoreResponse
from nextword.serve.settings import Settings
from nextword.serve.web.app import TOGETHER, build_app
from nextword.serve.web.middleware.body_limit import BODY_LIMIT
from tests.harness import ROOT

WORDS, SCORE, COMPLETIONS = "/v1/next-words", "/v1/score", "/v1/completions"
JSON = {"content-type": "application/json"}
KEYS = ["the-first-key-of-two", "the-second-key-of-two"]
ORIGIN = "https://keyboard.example"


class FakeDispatcher:
    """Answers by a function, or raises what the function returns."""

    model, ready_workers, waiting, cache_bytes, workers = "tiny", 1, 0, 0, ()

    def __init__(self, answer: Callable):
        self.answer, self.questions, self.reason = answer, [], None
        self.shared = contextlib.nullcontext

    def unavailable(self):
        return self.reason

    async def ask(self, question):
        self.questions.append(question)
        answer = self.answer(question)
        if isinstance(answer, Exception):
            raise answer
        return answer


def example(question) -> bytes:
    """An answer of the right form to any question."""
    if isinstance(question, NextWordsQuestion):
        return json.dumps(NextWordsResponse.model_config["json_schema_extra"]["examples"][0]).encode()
    if isinstance(question, ScoreQuestion):
        return json.dumps(ScoreResponse.model_config["json_schema_extra"]["examples"][0]).encode()
    if isinstance(question, RateQuestion):
        tokens = len(question.prompt.split())
        return RatedTokens(tokens, [" x"] * tokens, [-1.0] * tokens, [{}] * tokens).to_json()
    count = question.count
    texts, tokens = [" store"] * count, ["store"] * count
    return WrittenTokens(4, texts, [-1.0] * count, top=[], tokens=tokens).to_json()


def service(answer: Callable = example, **settings) -> tuple[FakeDispatcher, TestClient]:
    dispatcher = FakeDispatcher(answer)
    app = build_app(dispatcher, Settings(access_log=False, **settings))
    return dispatcher, TestClient(app, "http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def http():
    return service()[1]


@pytest.fixture(scope="module")
def guarded():
    return service(api_keys=tuple(map(SecretStr, KEYS)), rate_limit="40/hour", cors_origins=(ORIGIN,))[1]


@pytest.fixture
def complete():
    """Asks for a completion with the official client."""

    async def ask(**options):
        transport = httpx.ASGITransport(service()[1].app)
        async with httpx.AsyncClient(transport=transport) as http:
            client = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="any", max_retries=0, http_client=http)
            return await client.completions.create(**{"model": "tiny", "prompt": "I went to the", **options})

    return lambda **options: asyncio.run(ask(**options))


def error(response: httpx.Response) -> dict:
    content = response.json()
    assert content.keys() == {"error"}
    assert content["error"]["type"] and content["error"]["message"]
    return content["error"]


# What is asked


def test_a_question_has_the_fields_of_the_request_and_the_part_of_the_texts_that_is_read():
    dispatcher, http = service()
    long = "They walked to the park. " * 4000
    fields = {"text": long, "history": long, "k": 7.0, "partial": "s", "exclude": ["a"]}
    assert http.post(WORDS, json=fields).status_code == 200
    (question,) = dispatcher.questions
    assert (question.k, question.partial, question.exclude, question.max_words) == (7, "s", ["a"], 1)
    for part, block in ((question.text, TEXT_BLOCK), (question.history, HISTORY_BLOCK)):
        assert long.endswith(part) and block - 20 < len(part) <= 2 * block
    http.post(COMPLETIONS, json={"prompt": long, "max_tokens": 1})
    assert long.endswith(dispatcher.questions[1].prompt) and len(dispatcher.questions[1].prompt) <= 2 * TEXT_BLOCK


@pytest.mark.parametrize("path", [WORDS, f"{WORDS}?one=1"])
@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"])
def test_every_spelling_of_json_is_the_same_request(media_type, path):
    dispatcher, http = service()
    wanted = {"text": "caf\u00e9 \U0001f389", "k": 7}
    bodies = [json.dumps(wanted), json.dumps(wanted, ensure_ascii=False), json.dumps(wanted).replace("7", "7.0"),
              json.dumps({**wanted, "k": 3})[:-1] + ', "k": 7}', f"\r\n{json.dumps(wanted, indent=1)} "]
    contents = [body.encode(coding) for body in bodies for coding in ("utf-8", "utf-16")]
    for content in contents:
        assert http.post(path, content=content, headers={"content-type": media_type}).status_code == 200
    asked = [{"text": question.text, "k": question.k} for question in dispatcher.questions]
    assert asked == [wanted] * len(contents)


def test_texts_of_a_list_are_asked_a_few_at_a_time_and_share_their_history():
    class Dispatcher(FakeDispatcher):
        asking = most = shared_texts = 0

        def __init__(self):
            super().__init__(lambda question: json.dumps(question.text).encode())
            self.shared = self.share

        @contextlib.contextmanager
        def share(self, text):
            self.shared_texts += 1
            yield text

        async def ask(self, question):
            self.asking += 1
            self.most = max(self.most, self.asking)
            await asyncio.sleep(0.001)
            self.asking -= 1
            return await super().ask(question)

    dispatcher = Dispatcher()
    http = TestClient(build_app(dispatcher, Settings(access_log=False)), "http://localhost")
    texts = [f"text {number}" for number in range(TEXTS_LIMIT)]
    assert http.post(WORDS, json={"text": texts, "history": "earlier"}).json() == {"results": texts}
    assert (dispatcher.most, dispatcher.shared_texts) == (TOGETHER, 1)
    assert {question.history for question in dispatcher.questions} == {"earlier"}


def test_a_list_is_given_up_when_one_of_its_texts_fails():
    class Dispatcher(FakeDispatcher):
        async def ask(self, question):
            await asyncio.sleep(0 if question.text == "bad" else 60)
            return await super().ask(question)

    dispatcher = Dispatcher(lambda question: WorkerFault())
    http = TestClient(build_app(dispatcher, Settings(access_log=False)), "http://localhost")
    assert http.post(WORDS, json={"text": ["good", "bad"] + ["good"] * (TEXTS_LIMIT - 2)}).status_code == 500
    assert [question.text for question in dispatcher.questions] == ["bad"]


# Errors, in either shape


@pytest.mark.parametrize(("fault", "status", "kind", "openai_kind"), [
    (Unavailable("the model is being loaded"), 503, "unavailable", "service_unavailable"),
    (DeadlinePassed(), 504, "deadline_passed", "timeout"),
    (WorkerFault(), 500, "internal_error", "server_error"),
    (RuntimeError("a secret"), 500, "internal_error", "server_error"),
])
def test_a_question_without_an_answer_is_an_error_of_its_kind(fault, status, kind, openai_kind):
    _, http = service(lambda question: fault)
    for path, fields in ((WORDS, {"text": "I"}), (SCORE, {"text": "I"}), (WORDS, {"text": ["I", "You"]})):
        refused = http.post(path, json=fields)
        assert (refused.status_code, error(refused)["type"]) == (status, kind)
        assert refused.headers.get("retry-after") == ("1" if status > 500 else None)
        assert "secret" not in refused.text
    for fields in ({"prompt": "I"}, {"prompt": "I", "stream": True}, {"prompt": "I", "echo": True, "logprobs": 0}):
        refused = http.post(COMPLETIONS, json=fields)
        assert (refused.status_code, error(refused)["type"], error(refused)["code"]) == (status, openai_kind, kind)
        assert refused.headers.get("retry-after") == ("1" if status > 500 else None)
    assert http.post(COMPLETIONS, json={"prompt": "I"}).json()["error"].keys() == {"message", "type", "param", "code"}


def test_a_completion_that_is_late_says_what_to_do():
    _, http = service(lambda question: DeadlinePassed())
    refused = http.post(COMPLETIONS, json={"prompt": "I", "max_tokens": 256})
    assert refused.status_code == 504
    assert "ask for fewer tokens, or stream" in error(refused)["message"]


def test_nobody_reads_the_answer_to_a_client_that_left():
    assert service(lambda question: ClientGone())[1].post(WORDS, json={"text": "I"}).status_code == 499


def test_a_failure_in_mid_stream_is_its_last_event():
    _, http = service(lambda question: DeadlinePassed() if question.written else example(question))
    answer = http.post(COMPLETIONS, json={"prompt": "I", "stream": True})
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    first, last, end = answer.text.split("\n\n")
    assert json.loads(first.removeprefix("data: "))["choices"][0]["text"] == " store" and not end
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_passed"


@pytest.mark.parametrize(
    ("question", "where", "hint"),
    [
        ({}, "text", "required"),
        ({"text": None}, "text", "string"),
        ({"text": 1}, "text", "string"),
        ({"text": "x" * (TEXT_LIMIT + 1)}, "text", "100000"),
        ({"text": "\ud800"}, "text", "unicode"),
        ({"text": []}, "text", "at least 1"),
        ({"text": ["I"] * (TEXTS_LIMIT + 1)}, "text", "at most 32"),
        ({"text": ["I", 1]}, "text.1", "string"),
        ({"text": {"I": 1}}, "text", "string"),
        ({"text": ["x" * 100_001]}, "text.0", "100000"),
        ({"text": "", "history": ["I"]}, "history", "string"),
        ({"text": "", "history": "x" * 100_001}, "history", "100000"),
        ({"text": "", "max_words": 0}, "max_words", "1"),
        ({"text": "", "max_words": 11}, "max_words", "10"),
        ({"text": "", "k": "5"}, "k", "integer; it is a string"),
        ({"text": "", "k": True}, "k", "integer"),
        ({"text": "", "k": 5.5}, "k", "integer"),
        ({"text": "", "k": math.inf}, "k", "integer"),
        ({"text": "", "k": math.nan}, "k", "integer"),
        ({"text": "", "k": 0}, "k", "1"),
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
    response = http.post(WORDS, content=json.dumps(question), headers=JSON)
    assert response.status_code == 422
    fault = error(response)
    assert fault["type"] == "invalid_request"
    assert where is None or fault["where"] == where
    assert hint in fault["message"] and "the fields; it is" not in fault["message"]


@pytest.mark.parametrize("fields", [{}, {"text": None}, {"text": ["I"]}, {"text": "I", "k": 5}, {"text": "." * 5001}],
                         ids=lambda value: repr(value)[:40])
def test_wrong_fields_of_a_score_are_refused(http, fields):
    refused = http.post(SCORE, json=fields)
    assert (refused.status_code, error(refused)["type"]) == (422, "invalid_request")


@pytest.mark.parametrize("path", [WORDS, COMPLETIONS])
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
def test_a_body_that_is_no_json_is_refused(http, body, path):
    response = http.post(path, content=body, headers=JSON)
    assert response.status_code == 400
    assert error(response)["code" if path == COMPLETIONS else "type"] == "invalid_json"


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", ";"])
def test_other_media_types_are_refused(http, media_type):
    headers = {"content-type": media_type} if media_type else {}
    for path in (WORDS, COMPLETIONS):
        response = http.post(path, content=b'{"text": ""}', headers=headers)
        assert response.status_code == 415
        assert "application/json" in error(response)["message"]


def test_too_large_bodies_are_refused_declared_or_not(http):
    large = b'{"text": "' + b"x" * BODY_LIMIT
    for path, kind in ((WORDS, "type"), (COMPLETIONS, "code")):
        for content in (large, iter([large[:1000], large[1000:]])):
            response = http.post(path, content=content, headers=JSON)
            assert response.status_code == 413
            assert error(response)[kind] == "too_large"


def test_other_addresses_and_methods_are_refused(http):
    assert error(http.get("/nothing/here"))["type"] == "not_found"
    assert error(http.get("/page/nothing"))["type"] == "not_found"
    assert error(http.get(f"{COMPLETIONS}/here"))["code"] == "not_found"
    for path, kind in ((WORDS, "type"), (COMPLETIONS, "code")):
        refused = http.get(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        assert "POST" in error(refused)["message"] and error(refused)[kind] == "method_not_allowed"
    assert http.post("/v1/profiles/me").headers["allow"] == "DELETE, GET, HEAD, PUT"


@pytest.mark.parametrize(("path", "hint"), [
    ("/completions", "did you mean /v1/completions?"),
    ("/v1/v1/completions", "did you mean /v1/completions?"),
    ("/v1/next_words/", "did you mean /v1/next-words?"),
    ("/healthz", "did you mean /health?"),
    (f"/v1/{'completions' * 10}", "address; /docs describes"),
])  # fmt: skip
def test_an_address_that_is_nearly_right_is_answered_with_the_right_one(http, path, hint):
    refused = http.post(path, json={})
    assert refused.status_code == 404 and hint in error(refused)["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/responses"])
def test_what_openai_has_and_this_service_lacks_is_refused_by_name(http, path):
    refused = http.post(path, json={"model": "tiny"})
    assert (refused.status_code, error(refused)["code"]) == (404, "not_found")
    assert "POST /v1/completions continues a text" in error(refused)["message"]


@pytest.mark.parametrize(
    ("options", "param", "hint"),
    [
        ({"suffix": "end"}, "suffix", "suffix is not supported"),
        ({"best_of": 17}, "best_of", "16; it is 17"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "logit_bias is not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "frequency_penalty is not supported"),
        ({"presence_penalty": -0.5}, "presence_penalty", "presence_penalty is not supported"),
        ({"prompt": ["I"] * 64, "best_of": 2, "max_tokens": 1000}, "max_tokens", "× best_of × max_tokens is 128,000"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options", "include_obfuscation is not supported"),
        ({"prompt": [1, 2, 3]}, "prompt", "a list of token numbers, which are not supported"),
        ({"prompt": [[1], [2]]}, "prompt", "a list of token numbers, which are not supported"),
        ({"prompt": []}, "prompt", "it is an empty list"),
        ({"prompt": ["I"] * 64, "n": 16, "max_tokens": 1000}, "max_tokens", "prompts × n × max_tokens is 1,024,000"),
        ({"prompt": ["I"] * 65}, "prompt", "a list of 1 to 64"),
        ({"prompt": ["I"] * 65}, "prompt", "it is a list of 65 strings, the longest of 1 characters"),
        ({"prompt": ["I", 1]}, "prompt", "it is a list of 2 values that are not all strings"),
        ({"prompt": "x" * 100_001}, "prompt", "it is a string of 100,001 characters"),
        ({"max_tokens": 1001}, "max_tokens", "1000; it is 1001"),
        ({"temperature": 2.1}, "temperature", "2"),
        ({"top_p": -0.1}, "top_p", "0"),
        ({"n": 0}, "n", "1"),
        ({"stop": ["a"] * 5}, "stop", "up to 4"),
        ({"stop": ""}, "stop", "1 to 100 characters"),
        ({"logprobs": 21}, "logprobs", "20"),
        ({"extra_body": {"tmperature": 1}}, "tmperature", "no such field"),
        ({"prompt": "word " * 1001, "echo": True, "logprobs": 1}, "prompt", "1,001 tokens"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_completion_that_is_not_possible_is_refused_by_name(complete, options, param, hint, stream):
    with pytest.raises(openai.BadRequestError) as refusal:
        complete(**options, stream=stream)
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.code
    assert hint in refusal.value.body["message"]


@pytest.mark.parametrize("options", [
    {"suffix": ""}, {"suffix": None}, {"best_of": 2, "n": 3}, {"best_of": 1}, {"best_of": None}, {"prompt": None},
    {"logit_bias": None}, {"frequency_penalty": None}, {"stream_options": {"include_obfuscation": False}},
    {"stream_options": {"include_usage": None, "include_obfuscation": None}}, {"prompt": ["I"] * 64},
], ids=str)  # fmt: skip
def test_values_that_change_nothing_are_accepted(complete, options):
    n = options.get("n", 1) * len(options["prompt"]) if options.get("prompt") else options.get("n", 1)
    assert len(complete(**options, max_tokens=1).choices) == n


def test_a_compressed_body_is_refused_by_name(http):
    for path in (WORDS, COMPLETIONS):
        refused = http.post(path, content=gzip.compress(b'{"text": "I"}'), headers={**JSON, "content-encoding": "gzip"})
        assert refused.status_code == 415 and "gzip" in error(refused)["message"]


def test_openai_routes_take_a_slash_at_the_end(http):
    assert http.post(f"{COMPLETIONS}/", json={"prompt": "I"}).json()["object"] == "text_completion"
    assert http.get("/v1/models/").json()["object"] == "list"
    assert http.post(f"{COMPLETIONS}/", json={"prompt": 1}).json()["error"]["param"] == "prompt"


@pytest.mark.parametrize("version, chunked", [("1.0", False), ("1.1", True)])
def test_a_stream_to_http_1_0_has_a_length(version, chunked):
    """What the application sends, as a client of HTTP/1.0 cannot read chunks."""
    messages = []
    body = json.dumps({"prompt": "I", "stream": True, "max_tokens": 3}).encode()
    scope = {"type": "http", "http_version": version, "method": "POST", "path": COMPLETIONS, "query_string": b"",
             "headers": [(b"content-type", b"application/json")], "client": ("test", 1), "root_path": ""}

    async def send(message):
        messages.append(message)

    async def receive(sent=[]):  # noqa: B006
        if sent:
            await asyncio.sleep(60)
        sent.append(True)
        return {"type": "http.request", "body": body}

    asyncio.run(service()[1].app(scope, receive, send))
    headers = dict(messages[0]["headers"])
    content = b"".join(message["body"] for message in messages[1:])
    assert content.count(b"data: ") == 4 and content.endswith(b"data: [DONE]\n\n")
    assert (b"content-length" not in headers) == chunked


# Health and documentation


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/page/page.js", "/health", "/ready", "/metrics",
                                  "/v1/models", "/v1/models/tiny"])
def test_head_is_answered_wherever_get_is(http, path):
    got, head = http.get(path), http.head(path)
    assert (head.status_code, head.headers["content-type"]) == (200, got.headers["content-type"])


def test_metrics_tell_processes_and_build(http):
    values = {sample.name + str(sorted(sample.labels.items())): sample.value
              for family in text_string_to_metric_families(http.get("/metrics").text) for sample in family.samples}
    assert values[f"nextword_info[('model', 'tiny'), ('version', '{version('nextword')}')]"] == 1
    assert values["nextword_process_cpu_seconds_total[('process', 'http')]"] > 0
    assert values["nextword_process_resident_bytes[('process', 'http')]"] > 10_000_000
    assert values["nextword_worker_restarts_total[]"] == 0 and values["nextword_ready_workers[]"] == 1


def test_the_dashboard_shows_metrics_that_exist(http):
    dashboard = json.loads((ROOT / "serve/deploy/grafana.json").read_text())
    shown = {metric for panel in dashboard["panels"] for target in panel["targets"]
             for metric in re.findall(r"nextword_\w+", target["expr"])}
    http.post(WORDS, json={"text": "I"})
    answer = http.get("/metrics").text
    there = set(re.findall(r"^(?:# TYPE )?(nextword_\w+)", answer, re.MULTILINE))
    there |= {f"{histogram}_{part}" for histogram in re.findall(r"^# TYPE (\w+) histogram", answer, re.MULTILINE)
              for part in ("bucket", "sum", "count")}
    assert len(shown) >= 10 and shown <= there
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in dashboard["panels"]})


def test_refused_requests_and_pages_are_logged_and_counted_with_their_route(capsys):
    http = TestClient(build_app(FakeDispatcher(example), Settings(rate_limit="1/hour")), "http://localhost")
    for path, status in ((WORDS, 200), (WORDS, 429), (COMPLETIONS, 429), ("/v1/models/a", 429)):
        method = "get" if "models" in path else "post"
        answer = http.request(method, path, **({} if method == "get" else {"json": {"text": "I"}}))
        assert answer.status_code == status
    for path in ("/docs", "/", "/openapi.json", "/page/page.css", "/docs/assets/swagger-ui.css", "/nothing"):
        http.get(path)
    routes = re.findall(" INFO request method=.* route=(.*) status=", capsys.readouterr().err)
    assert routes == [WORDS, WORDS, COMPLETIONS, "/v1/models/{name:any}",
                      "/docs", "/", "/openapi.json", "/page", "/docs/assets", "other"]
    assert 'nextword_request_seconds_count{route="/v1/completions",status="429"}' in http.get("/metrics").text


def test_a_log_that_cannot_be_written_fails_no_request(monkeypatch):
    http = TestClient(build_app(FakeDispatcher(example), Settings()), "http://localhost")
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert http.post(WORDS, json={"text": "I"}).status_code == 200
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()


def test_health_and_readiness_follow_the_dispatcher():
    dispatcher, http = service()
    assert http.get("/health").json() == {"status": "ready", "model": "tiny"}
    assert http.get("/ready").json() == {"status": "ready", "workers": 1, "waiting": 0}
    dispatcher.answer = lambda question: Unavailable("the model is being loaded")
    dispatcher.reason = "too many requests"
    for path, status in (("/health", "the model is being loaded"), ("/ready", "too many requests")):
        assert (http.get(path).status_code, http.get(path).json()["status"]) == (503, status)


def test_openapi_document_is_true(http):
    document = http.get("/openapi.json").json()
    assert document["servers"] == [{"url": "."}]
    assert set(document["paths"]) >= {WORDS, SCORE, COMPLETIONS, "/v1/models", "/health", "/ready", "/metrics"}
    for path, shape in ((WORDS, "/ErrorResponse"), (COMPLETIONS, "/OpenAIErrorResponse")):
        statuses = document["paths"][path]["post"]["responses"]
        assert {"200", "400", "401", "413", "415", "429", "500", "503", "504"} <= statuses.keys()
        for status in statuses.keys() - {"200"} - ({"422"} if path == COMPLETIONS else set()):
            assert statuses[status]["content"]["application/json"]["schema"]["$ref"].endswith(shape)
            assert statuses[status]["description"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_nothing_from_elsewhere(http, path):
    page = http.get(path)
    assert page.headers["content-type"].startswith("text/html")
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        assert re.match(r"[a-z]+(/|$)", address), "relative, for the path prefix of a proxy"
        assert http.get(f"/{address}").status_code == 200


# Keys, rates, origins and headers


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()


@pytest.mark.parametrize("headers", [
    {"authorization": f"Bearer {KEYS[0]}"},
    {"authorization": f"bearer  {KEYS[1]}"},
    {"x-api-key": KEYS[1]},
    {"authorization": basic(KEYS[0])},
], ids=["Bearer", "bearer", "X-API-Key", "Basic"])
def test_each_key_is_accepted_in_each_way(guarded, headers):
    assert guarded.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": f"Bearer {KEYS[0][:-1]}"},
    {"authorization": f"Bearer {KEYS[0]}x"},
    {"authorization": f"Bearer {','.join(KEYS)}"},
    {"authorization": "Basic !!!"},
    {"authorization": basic("anything")},
    {"authorization": KEYS[0]},
    {"x-api-key": KEYS[0].upper()},
    {"x-api-key": "ÿ".encode("latin-1")},
], ids=str)
def test_anything_else_is_refused(guarded, headers):
    refused = guarded.get("/metrics", headers=headers)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert error(refused)["type"] == "invalid_api_key" and "X-API-Key" in error(refused)["message"]
    refused = guarded.get("/v1/models", headers=headers)
    assert (refused.status_code, error(refused)["code"]) == (401, "invalid_api_key")


def test_every_route_but_liveness_is_guarded(guarded):
    paths = guarded.get("/openapi.json", headers={"x-api-key": KEYS[0]}).json()["paths"]
    asked = [(method, path.replace("{name}", "tiny")) for path, methods in paths.items() for method in methods]
    pages = ("/", "/docs", "/openapi.json", "/page/page.js", "/docs/assets/swagger-ui.css", "/no")
    asked += [("get", path) for path in pages]
    assert len(asked) > 12
    for method, path in asked:
        expected = 200 if path == "/health" else 401
        assert guarded.request(method, path).status_code == expected, path
        assert guarded.request(method, f"http://localhost/{path}").status_code in (401, 404), path


def test_a_rate_holds_for_each_key_and_on_the_paying_routes_alone():
    http = service(api_keys=tuple(map(SecretStr, KEYS)), rate_limit="40/hour")[1]

    def ask(key: str, path: str = WORDS) -> httpx.Response:
        return http.post(path, json={"text": "I"}, headers={"x-api-key": key})

    assert [ask(KEYS[1]).status_code for _ in range(45)] == [200] * 40 + [429] * 5
    for path, kind in ((WORDS, "type"), (COMPLETIONS, "code")):
        refused = ask(KEYS[1], path)
        assert error(refused)[kind] == "rate_limit_exceeded" and 0 < int(refused.headers["retry-after"]) <= 3600
    assert http.get("/metrics", headers={"x-api-key": KEYS[1]}).status_code == 200
    assert ask(KEYS[0]).status_code == 200


def test_a_request_for_much_counts_as_several():
    def left(path: str, **fields) -> int:
        http = service(rate_limit="20/hour")[1]
        assert http.post(path, json=fields).status_code == 200
        return [http.post(WORDS, json={"text": "I"}).status_code for _ in range(20)].count(200)

    assert left(WORDS, text="I", k=20, exclude=["a"] * 100) == 19
    assert left(WORDS, text=["I"] * 8) == 12
    assert left(WORDS, text="I", k=20, max_words=6) == 20 - 11
    assert left(WORDS, text="I", k=100, max_words=10, exclude=["a"] * 1000) == 0
    assert left(SCORE, text="I went " * 100) == 20 - 15
    assert left(COMPLETIONS, prompt="I") == 19
    assert left(COMPLETIONS, prompt=["I", "You"], n=2, max_tokens=32) == 12
    assert left(COMPLETIONS, prompt="I", max_tokens=1000) == 0


def test_a_service_without_a_store_of_profiles_says_so(http):
    question = {"text": "", "profile": "me"}
    answers = [http.post("/v1/profiles/me/text", json={"text": "A text."}), http.get("/v1/profiles/me"),
               http.get("/v1/profiles/me/words"), http.get("/v1/profiles/me/export"),
               http.put("/v1/profiles/me", json={}), http.delete("/v1/profiles/me"),
               http.put("/v1/profiles/me/words/word"),
               http.post("/v1/next-words", json=question), http.post("/v1/score", json=question)]
    for answer in answers:
        assert answer.status_code == 501
        assert answer.json()["error"]["type"] == "no_profiles" and "--profiles FILE" in answer.text
    assert http.post("/v1/completions", json={"profile": "me"}).json()["error"]["param"] == "profile"


@pytest.mark.parametrize(("path", "fields"), [
    (WORDS, {"text": "I"}), (SCORE, {"text": "I"}), (COMPLETIONS, {"prompt": "I"}),
    (COMPLETIONS, {"stream_options": {}}), (COMPLETIONS, {"logit_bias": {}}),
], ids=str)
def test_very_many_unknown_fields_are_refused_at_the_price_of_one(http, path, fields):
    many = {f"field {number}": "x" for number in range(30_000)}
    place = next((value for value in fields.values() if isinstance(value, dict)), fields)
    place.update(many)
    tracemalloc.start()
    refused = http.post(path, json=fields)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.status_code in (400, 422) and len(refused.text) < 300
    assert most < 15_000_000  # an error for each field takes twice as much


@pytest.mark.parametrize("body", [b'{"text": "%s', b'{"text": "%s", "k": 0}', b"%s"])
def test_a_refused_body_is_freed_without_the_garbage_collector(http, body):
    body = body.replace(b"%s", b"a" * 500_000)
    http.post(WORDS, content=body, headers=JSON)
    gc.disable()
    tracemalloc.start()
    for _ in range(10):
        assert http.post(WORDS, content=body, headers=JSON).status_code in (400, 422)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    assert left < 1_000_000


@pytest.mark.parametrize(("addresses", "together"), [
    (("203.0.113.1", "203.0.113.2"), False),
    (("2001:db8::1", "2001:db8::ffff:1"), True),
    (("2001:db8::1", "2001:db8:0:1::1"), False),
    (("203.0.113.1", "::ffff:203.0.113.1"), True),
], ids=str)
def test_a_rate_by_address_holds_for_an_ipv6_site(addresses, together):
    app = service(rate_limit="2/hour")[1].app

    def ask(address: str) -> int:
        return TestClient(app, "http://localhost", client=(address, 1)).post(WORDS, json={"text": "I"}).status_code

    assert [ask(addresses[0]) for _ in range(3)] == [200, 200, 429]
    assert ask(addresses[1]) == (429 if together else 200)


@pytest.mark.parametrize(("proxies", "believed"), [((), False), (("127.0.0.1",), True), (("10.0.0.0/8",), False)])
def test_only_a_proxy_that_is_named_tells_whose_a_request_is(proxies, believed):
    app = service(rate_limit="2/hour", trusted_proxies=proxies)[1].app
    http = TestClient(app, "http://localhost", client=("127.0.0.1", 1))
    statuses = [http.post(WORDS, json={"text": "I"}, headers={"x-forwarded-for": f"203.0.113.{number}"}).status_code
                for number in range(3)]
    assert statuses == [200, 200, 200 if believed else 429]


def test_pages_whose_name_was_made_to_mean_this_machine_are_refused():
    http = service()[1]
    for host in ("rebound.example", "localhost.example:8000", "", "127.0.0.1.example"):
        refused = http.post(WORDS, json={"text": "I"}, headers={"host": host})
        assert (refused.status_code, error(refused)["type"]) == (421, "unknown_host")
        assert http.get("/health", headers={"host": host}).status_code == 200
    for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert http.get("/", headers={"host": host}).status_code == 200
    elsewhere = service(host="0.0.0.0")[1]
    assert elsewhere.get("/", headers={"host": "words.example.org"}).status_code == 200


def test_pages_of_other_origins_may_ask_only_where_it_is_set(guarded, http):
    def preflight(client: httpx.Client, origin: str, method: str = "POST") -> httpx.Response:
        return client.options(WORDS, headers={
            "origin": origin, "access-control-request-method": method,
            "access-control-request-headers": "content-type,x-api-key,x-stainless-os"})

    allowed = preflight(guarded, ORIGIN)  # browsers send no key with it
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert preflight(guarded, ORIGIN, "DELETE").status_code == 200  # of a profile
    assert "access-control-allow-origin" not in preflight(guarded, "https://other.example").headers
    answer = guarded.post(WORDS, json={"text": "I"}, headers={"origin": ORIGIN})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ORIGIN)
    assert not [name for name in preflight(http, ORIGIN).headers if name.startswith("access-control")]
    answer = http.post(WORDS, json={"text": "I"}, headers={"origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/docs", "/page/page.js", "/health", "/openapi.json", "/no/such"])
def test_every_answer_has_the_security_headers(http, path):
    headers = http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0] and "unsafe-eval" not in policy


def test_a_request_keeps_the_id_it_brings_or_gets_one(http):
    assert http.get("/health", headers={"x-request-id": "abc.DEF_1-2"}).headers["x-request-id"] == "abc.DEF_1-2"
    given = [http.get("/health", headers={"x-request-id": wrong}).headers["x-request-id"]
             for wrong in ("", "a b", "x" * 129, "<b>")]
    given.append(http.get("/no/such").headers["x-request-id"])
    assert len(set(given)) == len(given) and all(len(identity) == 32 for identity in given)
