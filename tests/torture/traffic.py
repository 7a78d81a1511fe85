"""Many clients at once, and the answers that they get."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.harness.client import Address, Answer, Client, Request, next_words

SENTENCES = "They walked to the park today. Thank you very much! We saw an old film about a ship and the sea. "


def score(characters: int, number: int = 0) -> Request:
    """Return a request to score a text of so many characters. That takes time, and its state is not cached."""
    return "POST", "/v1/score", {"text": f"Number {number}. " + (SENTENCES * characters)[: characters - 20]}


def typing(draw: random.Random) -> Request:
    """Return a request for the word after a short random text."""
    return next_words(" ".join(draw.choices(SENTENCES.split(), k=draw.randint(0, 8))))


class Crowd:
    """Clients in threads of their own; `answers` has an entry for each request that has ended."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, target: Callable[[], None]) -> None:
        """Run `target` in a new thread."""
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self, seconds: float = 60) -> int:
        """Begin no more requests, wait for the answers, and return the number of clients that still wait."""
        self._stopped.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, end - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def ask_again_and_again(self, server: Address, request: Callable[[random.Random], Request], number: int) -> None:
        """Ask until `stop` is called, and wait as long as a refusal's Retry-After says, at random."""
        draw = random.Random(number)
        with Client(server) as client:
            while not self._stopped.is_set():
                answer = client.ask(*request(draw))
                self.answers.append(answer)
                if answer.status != 200:
                    self._stopped.wait(float(answer.headers.get("retry-after", 0.1)) * draw.random())

    def ask_at(self, server: Address, moments: Iterator[float], request: Callable[[random.Random], Request]) -> None:
        """Ask at each moment of time.monotonic(), from a new client; nobody waits for earlier answers."""
        draw = random.Random(0)

        def once() -> None:
            with Client(server) as client:
                self.answers.append(client.ask(*request(draw)))

        for moment in moments:
            time.sleep(max(0, moment - time.monotonic()))
            self.add(once)

    def ask_once(self, server: Address, requests: list[Request]) -> None:
        """Ask all requests at once, each from a client of its own."""
        for request in requests:

            def once(request: Request = request) -> None:
                with Client(server) as client:
                    self.answers.append(client.ask(*request))

            self.add(once)


@contextlib.contextmanager
def load(server: Address, connections: int, request: Callable[[random.Random], Request]) -> Iterator[Crowd]:
    """Have so many clients ask without a pause while the block runs."""
    crowd = Crowd()
    for number in range(connections):
        crowd.add(partial(crowd.ask_again_and_again, server, request, number))
    try:
        yield crowd
    finally:
        crowd.stop()
