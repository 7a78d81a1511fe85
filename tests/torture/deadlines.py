"""Deadlines: a worker that does not answer, and requests that take a slow one too long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.harness.client import Client, Request, next_words
from tests.harness.service import Service
from tests.harness.waiting import wait_until
from tests.torture.promise import Promise
from tests.torture.quiet_service import serving
from tests.torture.slowed import slowed

SLACK = 0.5  # seconds
PROMISE = "Every request has a deadline, 2 s where nothing else is set, which holds whatever the worker does"
QUESTIONS: dict[str, Request] = {
    "next words": next_words(),
    "a list of 32 texts": ("POST", "/v1/next-words", {"text": [f"Number {n}" for n in range(32)]}),
    "score": ("POST", "/v1/score", {"text": "I went to the store."}),
    "completion": ("POST", "/v1/completions", {"prompt": "I went to the", "max_tokens": 5}),
    "streamed completion": ("POST", "/v1/completions", {"prompt": "I went to the", "max_tokens": 5, "stream": True}),
}


def deadlines(
    bundle: Path | None, folder: Path, settings: tuple[float | None, ...] = (None, 0.5), slack: float = SLACK
) -> Iterator[Promise]:
    """Stop the worker (SIGSTOP) and ask on each route; ask a slow worker for more than it can compute in time."""
    for seconds in settings:
        options = ("--deadline", str(seconds)) if seconds else ()
        with serving(folder, bundle, *options) as service:
            attack = (
                f"SIGSTOP to the worker, deadline {f'set to {seconds:g} s' if seconds else 'not set'}; each route asked"
            )
            yield _ask_all(service, seconds or 2.0, attack, QUESTIONS, slack, stopped=True)
    many = {
        "a list of 32 texts": QUESTIONS["a list of 32 texts"],
        "8 completions": ("POST", "/v1/completions", {"prompt": ["I went to the"] * 8, "max_tokens": 50}),
    }
    with serving(folder, bundle, program=slowed(8)) as service:
        yield _ask_all(
            service, 2.0, "requests that take 4 s of a worker slowed to 8 answers/s", many, slack, stopped=False
        )


def _ask_all(
    service: Service, deadline: float, attack: str, questions: dict[str, Request], slack: float, stopped: bool
) -> Promise:
    """Ask each question, with the worker stopped or as it is; each is to be refused before its deadline and `slack`."""
    answers = {}
    for name, question in questions.items():
        with Client(service) as client, _stopped(service) if stopped else contextlib.nullcontext():
            answers[name] = client.ask(*question)
    kept = all(
        answer.status in (503, 504) and answer.seconds <= deadline + slack and "retry-after" in answer.headers
        for answer in answers.values()
    )
    figures = "; ".join(f"{name}: {answer.outcome} after {answer.seconds:.2f} s" for name, answer in answers.items())
    return Promise(PROMISE, attack, kept, figures)


@contextlib.contextmanager
def _stopped(service: Service) -> Iterator[None]:
    """Stop the worker during the block, which must be shorter than the time after which it is replaced."""
    worker = service.workers()[0]
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()
    wait_until(service.is_full, "full service after SIGCONT")
