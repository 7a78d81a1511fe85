"""Who may ask, how much, from where, and what a browser is told."""
from __future__ import annotations

import base64
import socket

import httpx
import openai
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from nextword.serve.client import NextWords, RateLimited, Unauthorized
from nextword.serve.web.middleware.body_limit import BODY_LIMIT
from tests.servers import PATIENCE, serving

KEYS = ["the-first-key-of-two", "the-second-key-of-two"]
WORDS = {"text": "I went"}
ORIGIN = "https://keyboard.example"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text("\n".join(KEYS))
    with serving(folder, tiny_bundle, "--api-keys-file", str(folder / "keys"), "--cors-origins", ORIGIN,
                 "--rate-limit", "40/hour") as server:
        yield server


@pytest.fixture(scope="module")
def ask(guarded):
    with httpx.Client(base_url=guarded.url, timeout=PATIENCE) as client:
        yield client


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()


@pytest.mark.parametrize("headers", [
    {"authorization": f"Bearer {KEYS[0]}"},
    {"authorization": f"bearer  {KEYS[1]}"},
    {"x-api-key": KEYS[1]},
    {"authorization": basic(KEYS[0])},
], ids=["Bearer", "bearer", "X-API-Key", "Basic"])
def test_any_of_the_keys_opens_in_any_of_the_ways(ask, headers):
    assert ask.get("/metrics", headers=headers).status_code == 200


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
def test_anything_else_does_not(ask, headers):
    refused = ask.get("/metrics", headers=headers)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.json()["error"]["type"] == "invalid_api_key" and "X-API-Key" in refused.json()["error"]["message"]


def test_every_route_but_liveness_is_guarded(ask):
    paths = ask.get("/openapi.json", headers={"x-api-key": KEYS[0]}).json()["paths"]
    asked = [(method, path.replace("{name}", "tiny")) for path, methods in paths.items() for method in methods]
    asked += [("get", path) for path in ("/", "/docs", "/openapi.json", "/page/page.js", "/docs/assets/swagger-ui.css", "/no")]
    assert len(asked) > 12
    for method, path in asked:
        expected = 200 if path == "/health" else 401
        assert ask.request(method, path).status_code == expected, path
        assert ask.request(method, f"/{path}").status_code in (401, 404), path


def test_clients_learn_that_their_key_is_wrong(guarded):
    with NextWords(guarded.url, timeout=PATIENCE) as client, pytest.raises(Unauthorized, match="an API key is needed"):
        client.next_words("I")
    with NextWords(guarded.url, api_key=KEYS[0], timeout=PATIENCE) as client:
        assert client.next_words("I went", k=1).words
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="a-wrong-key-altogether", timeout=PATIENCE) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.completions.create(model="tiny", prompt="I")
        assert refused.value.code == "invalid_api_key"


def test_a_rate_holds_for_each_key_and_on_the_paying_routes_alone(guarded, ask):
    def status(key: str) -> int:
        return ask.post("/v1/next-words", json=WORDS, headers={"x-api-key": key}).status_code

    statuses = [status(KEYS[1]) for _ in range(45)]
    assert statuses == [200] * 40 + [429] * 5
    refused = ask.post("/v1/next-words", json=WORDS, headers={"x-api-key": KEYS[1]})
    assert refused.json()["error"]["type"] == "rate_limit_exceeded" and 0 < int(refused.headers["retry-after"]) <= 3600
    assert ask.get("/metrics", headers={"x-api-key": KEYS[1]}).status_code == 200
    assert status(KEYS[0]) == 200
    with NextWords(guarded.url, api_key=KEYS[1], timeout=PATIENCE) as client, pytest.raises(RateLimited, match="40 per 1 hour"):
        client.next_words("I")
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=KEYS[1], max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            client.completions.create(model="tiny", prompt="I")
        assert refused.value.code == "rate_limit_exceeded"


def test_pages_of_other_origins_may_ask_only_where_it_is_set(ask, http):
    def asked(client: httpx.Client, origin: str) -> httpx.Response:
        return client.options("/v1/next-words", headers={
            "origin": origin, "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key"})

    allowed = asked(ask, ORIGIN)  # which browsers ask without a key
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "access-control-allow-origin" not in asked(ask, "https://other.example").headers
    answer = ask.post("/v1/next-words", json=WORDS, headers={"origin": ORIGIN})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ORIGIN)
    assert not [name for name in asked(http, ORIGIN).headers if name.startswith("access-control")]
    assert "access-control-allow-origin" not in http.post("/v1/next-words", json=WORDS, headers={"origin": ORIGIN}).headers


@pytest.mark.parametrize("path", ["/", "/docs", "/page/page.js", "/health", "/openapi.json", "/no/such"])
def test_every_answer_has_the_headers(http, path):
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


def test_headers_are_bounded(server):
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (BODY_LIMIT + 1))
        assert connection.recv(1000)  # an answer, and not the wait for a body
    assert httpx.post(f"{server.url}/v1/next-words", content=b"x" * (BODY_LIMIT + 1), timeout=PATIENCE).status_code == 413


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
    assert chromium.execute_script("return document.querySelector('#words .bar i').offsetWidth") > 0  # which a script sets
    injected = "const s = document.createElement('script'); s.textContent = 'window.injected = 1'; document.body.append(s)"
    chromium.execute_script(injected)
    assert chromium.execute_script("return window.injected") is None
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"
            and "Content Security Policy" in entry["message"]]
    chromium.get(f"{guarded.url}/docs")
    see(lambda: len(seen(".opblock")) > 4, "the routes")
    assert [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
