"""Keys and rates as the clients and a browser meet them, and bounds on connections."""
from __future__ import annotations

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


def test_headers_are_bounded(server):
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (BODY_LIMIT + 1))
        assert connection.recv(1000)  # an answer, and not the wait for a body
    refused = httpx.post(f"{server.url}/v1/next-words", content=b"x" * (BODY_LIMIT + 1), timeout=PATIENCE)
    assert refused.status_code == 413


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
