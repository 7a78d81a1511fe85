"""The HTTP process's side of the engine: it admits questions, sends them to workers, and keeps the deadline."""
from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from starlette.types import ASGIApp

from nextword.serve import metrics
from nextword.serve.engine.admission import Admission, is_costly
from nextword.serve.engine.client_presence import client_has_left, seconds_waited
from nextword.serve.engine.faults import ClientGone, DeadlinePassed, Unavailable
from nextword.serve.engine.links import Links
from nextword.serve.engine.liveness import INTERVAL
from nextword.serve.engine.readiness import Readiness
from nextword.serve.questions import Question, SharedText

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
NEW_WORKER = struct.Struct("=BI")  # from the supervisor, with the worker's socket: generation and process id
HANGING_WORKER = struct.Struct("=I")  # to the supervisor: process id
CLIENT_CHECK = 0.1  # seconds between two checks of the client's presence
QUEUE_LIMIT = 1000  # questions


class AnyDispatcher(Protocol):
    """The dispatcher as the routes see it."""

    @property
    def model(self) -> str:
        """The name of the model that answers now."""

    @property
    def ready_workers(self) -> int:
        """The number of workers that can answer."""

    @property
    def waiting(self) -> int:
        """The number of questions without an answer."""

    @property
    def cache_bytes(self) -> int:
        """The size of the state caches and of the kept distributions of all workers."""

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that can answer."""

    def unavailable(self) -> str | None:
        """Return why no short question would be taken now, or None."""

    async def ask(self, question: Question) -> bytes:
        """Return the answer, or raise Unavailable, DeadlinePassed, WorkerFault or ClientGone (`engine.faults`)."""

    def shared(self, text: str) -> contextlib.AbstractContextManager[str]:
        """Return a context manager. Within it, questions can share its text, which is sent to each worker only once."""


class Dispatcher(AnyDispatcher):
    """The dispatcher of the service: worker processes answer its questions.

    Args:
        model: the name of the first workers' model.
        readiness: the readiness of the workers.
        workers: the number of workers.
        deadline: the seconds within which each request is answered or refused.
    """

    def __init__(self, model: str, readiness: Readiness, workers: int, deadline: float):
        self._readiness, self._deadline = readiness, deadline
        self._links, self._admission = Links(model, workers, metrics.record), Admission()
        self._waiting_cost = 0  # of the questions without an answer
        self._waiting_costly = 0  # of the costly ones of them
        self._connecting: set[asyncio.Task[None]] = set()
        self.supervisor: socket.socket  # set by the supervisor before it forks the HTTP process

    @property
    def model(self) -> str:
        return self._links.model

    @property
    def ready_workers(self) -> int:
        return self._readiness.count(self._readiness.serving)

    @property
    def waiting(self) -> int:
        return len(self._links)

    @property
    def cache_bytes(self) -> int:
        return self._links.cache_bytes

    @property
    def workers(self) -> list[int]:
        return self._links.workers

    @contextlib.asynccontextmanager
    async def lifespan(self, app: ASGIApp) -> AsyncIterator[None]:
        # From here on uvicorn handles these signals. Signals that came during the start are delivered now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.supervisor.fileno(), self._connect_worker)
        watching = loop.create_task(self._report_hanging_workers())
        yield
        watching.cancel()

    async def _report_hanging_workers(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            for process in self._links.hanging():
                self.supervisor.send(HANGING_WORKER.pack(process))

    def _connect_worker(self) -> None:
        message, sockets, *_ = socket.recv_fds(self.supervisor, NEW_WORKER.size, 1)
        if not message:  # the main process has ended
            asyncio.get_running_loop().remove_reader(self.supervisor.fileno())
            signal.raise_signal(signal.SIGTERM)
        for number in sockets:
            generation, process = NEW_WORKER.unpack(message)
            task = asyncio.ensure_future(self._links.connect(socket.socket(fileno=number), generation, process))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def unavailable(self, cost: int = 1) -> str | None:
        if not self.ready_workers:
            return "the model is being loaded"
        if self.waiting < QUEUE_LIMIT and self._admission.admits(
            cost, self._waiting_cost, self._deadline, self._waiting_costly
        ):
            return None
        return "too many requests are waiting"

    async def ask(self, question: Question) -> bytes:
        cost = question.cost
        if reason := self.unavailable(cost):
            raise Unavailable(reason)
        if (remaining := self._deadline - seconds_waited()) <= 0:
            raise DeadlinePassed
        number, answer = self._links.ask(question)
        start = time.monotonic()
        self._wait_for(cost)
        loop = answer.get_loop()
        watch: list[asyncio.Task[None]] = []
        timer = loop.call_later(
            min(CLIENT_CHECK, remaining),
            lambda: watch.append(loop.create_task(self._watch(answer, remaining - CLIENT_CHECK))),
        )
        try:
            result = await answer
            self._admission.answered(time.monotonic() - start, cost)
            return result
        finally:
            timer.cancel()
            for task in watch:
                task.cancel()
            self._links.close(number)
            self._wait_for(-cost)

    def _wait_for(self, cost: int) -> None:
        self._waiting_cost += cost
        if is_costly(abs(cost)):
            self._waiting_costly += cost
        self._admission.queue_is(self._waiting_cost)

    async def _watch(self, answer: asyncio.Future[bytes], seconds: float) -> None:
        """Give up waiting for an answer when the client has left, or after `seconds`."""
        end = time.monotonic() + seconds
        error: Exception = ClientGone()
        while not await client_has_left():
            if (remaining := end - time.monotonic()) <= 0:
                error = DeadlinePassed()
                break
            await asyncio.sleep(min(CLIENT_CHECK, remaining))
        if not answer.done():
            answer.set_exception(error)

    @contextlib.contextmanager
    def shared(self, text: str) -> Iterator[SharedText]:
        shared = self._links.share(text)
        try:
            yield shared
        finally:
            self._links.unshare(shared)
