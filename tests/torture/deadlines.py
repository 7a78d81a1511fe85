"""Deadlines: a worker that does not answer, and requests that want too much of one."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.torture.promise import Promise
from tests.torture.service import Service, serving, wait_until
from tests.torture.slowed import slowed
from tests.torture.traffic import Client, Request, next_words

SLACK = 0.5  # seconds
PROMISE = "Every request has a deadline, 2 s where nothing else is set, which holds whatever the worker does"
QUESTIONS: dict[str, Request] = {
    "next words": next_words(),
    "a list of 32 texts": ("POST", "/v1/next-words", {"text": [f"Number {n}" for n in range(32)]}),
    "score": ("POST", "/v1/score", {"text": "I went to the store."}),
    "completion": ("POST", "/v1/completions", {"prompt": "I went to the", "max_tokens": 5}),
    "streamed completion": ("POST", "/v1/completions", {"prompt": "I went to the", "max_tokens": 5, "stream": True}),
}


def deadlines(bundle: Path | None, folder: Path, settings: tuple[float | None, ...] = (None, 0.5),
              slack: float = SLACK) -> Iterator[Promise]:
    """Stops the worker (SIGSTOP) and asks, on each route; then asks a slow one for more than it can give in time."""
    for seconds in settings:
        options = ("--deadline", str(seconds)) if seconds else ()
        with serving(folder, bundle, *options) as service:
            what = f"SIGSTOP to the worker, deadline {f'set to {seconds:g} s' if seconds else 'not set'}; each route asked"
            yield _hold(service, seconds or 2.0, what, QUESTIONS, slack, stopped=True)
    many = {
        "a list of 32 texts": QUESTIONS["a list of 32 texts"],
        "8 completions": ("POST", "/v1/completions", {"prompt": ["I went to the"] * 8, "max_tokens": 50}),
    }
    with serving(folder, bundle, program=slowed(8)) as service:
        yield _hold(service, 2.0, "requests that take 4 s of a worker slowed to 8 answers/s", many, slack, stopped=False)


def _hold(service: Service, deadline: float, what: str, questions: dict[str, Request], slack: float, stopped: bool) -> Promise:
    answers = {}
    for name, question in questions.items():
        with Client(service) as client, _stopped(service) if stopped else contextlib.nullcontext():
            answers[name] = client.ask(*question)
    kept = all(
        answer.status in (503, 504) and answer.seconds <= deadline + slack and "retry-after" in answer.headers
        for answer in answers.values()
    )
    figures = "; ".join(f"{name}: {answer.says} after {answer.seconds:.2f} s" for name, answer in answers.items())
    return Promise(PROMISE, what, kept, figures)


@contextlib.contextmanager
def _stopped(service: Service) -> Iterator[None]:
    """Stops the worker for less time than it takes to be found silent and replaced."""
    worker = service.workers()[0]
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()
    wait_until(service.is_full, "full service after SIGCONT")
