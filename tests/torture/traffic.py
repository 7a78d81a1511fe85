"""Who asks: clients that note how each of their requests ends, one after the other or many at once."""
from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Request = tuple[str, str, Any]  # method, path, and body: bytes, or what is to be sent as JSON, or None

SENTENCES = "They walked to the park today. Thank you very much! We saw an old film about a ship and the sea. "


class Answer(NamedTuple):
    """How a request ended. `status` is 0 where there was no answer; `fault` says then why."""

    status: int
    seconds: float
    at: float  # when it was asked, by time.monotonic()
    headers: dict[str, str] = {}
    body: bytes = b""
    fault: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def says(self) -> int | str:
        return self.status or self.fault


def next_words(text: str = "I went to the", **fields) -> Request:
    return "POST", "/v1/next-words", {"text": text, **fields}


def score(characters: int, number: int = 0) -> Request:
    """A question for the probability of a text of so many characters, which takes time and is not remembered."""
    return "POST", "/v1/score", {"text": f"Number {number}. " + (SENTENCES * characters)[: characters - 20]}


class Client:
    """One connection, made anew when it was closed."""

    def __init__(self, service, timeout: float = 30):
        self._connection = http.client.HTTPConnection(service.host, service.port, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        start = time.monotonic()
        try:
            self._connection.request(method, path, content, {"content-type": "application/json", **(headers or {})})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(0, time.monotonic() - start, start, fault=type(error).__name__)
        given = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, time.monotonic() - start, start, given, content)


class Crowd:
    """The answers that many clients get, while they ask and afterwards."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self, seconds: float = 60) -> int:
        """Lets no new request begin, waits for the answers, and returns how many requests hang."""
        self._stopped.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, end - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def ask_again_and_again(self, service, request: Callable[[random.Random], Request], number: int) -> None:
        """Asks until stopped; who is told to come back later does so."""
        draw = random.Random(number)
        with Client(service) as client:
            while not self._stopped.is_set():
                answer = client.ask(*request(draw))
                self.answers.append(answer)
                if answer.status != 200:
                    self._stopped.wait(float(answer.headers.get("retry-after", 0.1)) * draw.random())

    def ask_at(self, service, moments: Iterator[float], request: Callable[[random.Random], Request]) -> None:
        """Asks at each of the moments, whether the answers to others have come or not."""
        draw = random.Random(0)

        def once() -> None:
            with Client(service) as client:
                self.answers.append(client.ask(*request(draw)))

        for moment in moments:
            time.sleep(max(0, moment - time.monotonic()))
            self.add(once)

    def ask_once(self, service, requests: list[Request]) -> None:
        """Asks all of them at once."""
        for request in requests:
            def once(request: Request = request) -> None:
                with Client(service) as client:
                    self.answers.append(client.ask(*request))

            self.add(once)


@contextlib.contextmanager
def load(service, connections: int, request: Callable[[random.Random], Request]) -> Iterator[Crowd]:
    """So many connections ask without a pause while the context lasts."""
    crowd = Crowd()
    for number in range(connections):
        crowd.add(lambda number=number: crowd.ask_again_and_again(service, request, number))
    try:
        yield crowd
    finally:
        crowd.stop()


def typing(draw: random.Random) -> Request:
    """What somebody may ask who types."""
    words = SENTENCES.split()
    return next_words(" ".join(draw.choices(words, k=draw.randint(0, 8))))


def connect(service, timeout: float = 30) -> socket.socket:
    return socket.create_connection((service.host, service.port), timeout=timeout)
