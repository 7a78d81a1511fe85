"""The HTTP process's ends of the sockets to the workers, and the questions that have no answer yet.

While every worker has enough questions, further questions wait here, so that any worker can take them. After a reload
there are workers of two generations. As soon as all new workers are ready, only they get questions. The old workers
answer the questions that they have. Then their sockets are closed, and they end.
"""
from __future__ import annotations

import asyncio
import itertools
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from nextword.serve import metrics
from nextword.serve.engine.coalesced_writes import CoalescedWrites
from nextword.serve.engine.faults import WorkerFault
from nextword.serve.engine.frames import FrameReader, Kind, frame, pack
from nextword.serve.engine.liveness import Liveness
from nextword.serve.profiles.faults import FAULTS
from nextword.serve.questions import Counts, Question, SharedText

WORKER_LIMIT = 64  # the most questions that a worker has: the batch that it answers, and the next one
GENERATIONS = 256  # the number of a generation is one byte


@dataclass
class _Open:
    """A question without an answer."""

    content: bytes
    shared: SharedText | None
    answer: asyncio.Future[bytes]
    link: _Link | None = None
    worker_died: bool = False  # True: a worker died while it had this question


class Links:
    """The sockets to all workers.

    Args:
        model: the name of the first generation's model.
        workers: the number of workers in a generation.
        record: a function for the counts that come with the answers.
    """

    def __init__(self, model: str, workers: int, record: Callable[[Counts], None]):
        self.model, self._workers, self.record = model, workers, record
        self._generation = 0
        self._numbers = itertools.count(1)
        self._open: dict[int, _Open] = {}
        self._unsent: OrderedDict[int, _Open] = OrderedDict()
        self._serving: list[_Link] = []
        self._next: list[_Link] = []  # ready workers of a new generation, until all of it is ready
        self._ready: list[_Link] = []  # all ready workers, also of an old generation

    def __len__(self) -> int:
        return len(self._open)

    @property
    def cache_bytes(self) -> int:
        return sum(link.cache_bytes for link in self._ready)

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that can answer."""
        return [link.process for link in self._ready]

    async def connect(self, link: socket.socket, generation: int, process: int) -> None:
        """Add a worker. It gets questions from the time it is ready until its socket closes."""
        await asyncio.get_running_loop().create_unix_connection(lambda: _Link(self, generation, process), sock=link)

    def hanging(self) -> list[int]:
        """Return the process ids of the workers that hang, and ask all workers for a sign of life."""
        for link in self._ready:
            link.send(Kind.SIGN_OF_LIFE)
        return [link.process for link in self._ready if link.liveness.hangs()]

    def ask(self, question: Question) -> tuple[int, asyncio.Future[bytes]]:
        """Return the number of the question, and its future answer or WorkerFault. `close` must follow."""
        number, (content, shared) = next(self._numbers), pack(question)
        waiting = _Open(content, shared, asyncio.get_running_loop().create_future())
        self._open[number] = self._unsent[number] = waiting
        self.send()
        return number, waiting.answer

    def close(self, number: int) -> None:
        """Forget a question that was answered or given up."""
        question = self._open.pop(number)
        if number in self._unsent:
            del self._unsent[number]
        elif question.link:
            question.link.take_back(number)

    def share(self, text: str) -> SharedText:
        """Return a text that several questions can share, until `unshare`."""
        shared = SharedText(text)
        shared.number = next(self._numbers)
        return shared

    def unshare(self, text: SharedText) -> None:
        for link in self._ready:
            link.forget(text)

    def send(self) -> None:
        """Send waiting questions to the workers, up to WORKER_LIMIT each."""
        while self._unsent and self._serving:
            link = min(self._serving, key=lambda link: len(link.numbers))
            if len(link.numbers) >= WORKER_LIMIT:
                break
            number, question = self._unsent.popitem(last=False)
            question.link = link
            link.give(number, question)

    def ready(self, link: _Link, model: str) -> None:
        """Note that a worker is ready. A new generation replaces the old one when all of its workers are ready."""
        self._ready.append(link)
        if link.generation == self._generation:
            self._serving.append(link)
            return self.send()
        if (link.generation - self._generation) % GENERATIONS > GENERATIONS // 2:
            return link.retire()  # a newer generation already serves
        self._next.append(link)
        new = [other for other in self._next if other.generation == link.generation]
        if len(new) == self._workers:
            old, self._serving, self._generation, self.model = self._serving, new, link.generation, model
            self._next = [other for other in self._next if other not in new]
            for other in old:
                other.retire()
            self.send()

    def answered(self, number: int, answer: bytes | None) -> None:
        """Set the answer of a question; None: the worker failed."""
        question = self._open.get(number)
        if question and not question.answer.done():
            question.link = None
            if answer is None:
                question.answer.set_exception(WorkerFault())
            else:
                question.answer.set_result(answer)

    def refused(self, number: int, fault: str) -> None:
        """Set a StoreFault, by its name, in place of the answer of a question."""
        question = self._open.get(number)
        if question and not question.answer.done():
            question.link = None
            question.answer.set_exception(FAULTS[fault]())

    def lost(self, link: _Link) -> None:
        """Send a dead worker's questions to other workers, but each only once: the question may have killed it."""
        if link in self._serving:
            metrics.worker_lost()
        for links in (self._serving, self._next, self._ready):
            if link in links:
                links.remove(link)
        for number in sorted(link.numbers, reverse=True):
            question = self._open[number]
            question.link = None
            if question.worker_died:
                self.answered(number, None)
            else:
                question.worker_died = True
                self._unsent[number] = question
                self._unsent.move_to_end(number, last=False)
        self.send()


class _Link(asyncio.Protocol):
    """The socket to one worker. `numbers` are the numbers of the worker's questions."""

    def __init__(self, links: Links, generation: int, process: int):
        self._links, self._frames = links, FrameReader()
        self.generation, self.process, self.liveness = generation, process, Liveness(process)
        self.numbers: set[int] = set()
        self._texts: set[int] = set()  # the numbers of the shared texts that the worker has
        self.cache_bytes = 0
        self._retired = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Questions of one write are answered together.
        self._transport = CoalescedWrites(cast(asyncio.Transport, transport))

    def send(self, kind: Kind, number: int = 0, content: bytes = b"") -> None:
        self._transport.write(frame(kind, number, content))

    def give(self, number: int, question: _Open) -> None:
        self.numbers.add(number)
        text = question.shared
        if text is not None and text.number not in self._texts:
            self._texts.add(text.number)
            self.send(Kind.TEXT, text.number, text.encode())
        self.send(Kind.QUESTION, number, question.content)

    def forget(self, text: SharedText) -> None:
        if text.number in self._texts:
            self._texts.remove(text.number)
            self.send(Kind.FORGET, text.number)

    def take_back(self, number: int) -> None:
        self.numbers.discard(number)
        self.send(Kind.FORGET, number)
        self._after_change()

    def retire(self) -> None:
        """Close the socket as soon as the worker has no question."""
        self._retired = True
        if not self.numbers:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self.liveness.heard = True
        for kind, number, content in self._frames.add(data):
            if kind in (Kind.ANSWER, Kind.FAILED):
                self.numbers.discard(number)
                self._links.answered(number, content if kind == Kind.ANSWER else None)
            elif kind == Kind.REFUSED:
                self.numbers.discard(number)
                self._links.refused(number, content.decode())
            elif kind == Kind.COUNTS:
                counts = Counts.from_json(content)
                self.cache_bytes = counts.cache_bytes
                self._links.record(counts)
            elif kind == Kind.READY:
                self._links.ready(self, content.decode())
        self._after_change()

    def _after_change(self) -> None:
        if self._retired:
            self.retire()
        self._links.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._links.lost(self)
