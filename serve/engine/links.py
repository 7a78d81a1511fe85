"""How questions get to the workers and answers back: a socket between the HTTP process and each worker.

What goes over it are frames: the number of a question, and some bytes. To a worker they are the question, or none where
nobody waits for the answer any more; from a worker they are the answer, or none where the worker failed at it. A worker
that is ready says so by an answer to no question (0), which is the name of its model; asked for a sign of life, by no
question, it gives no answer to it.

A question waits in the HTTP process while all workers have enough to do, so that any of them can take it. When a new
bundle comes, there are workers of two generations: the new ones are asked when all of them are ready, the old ones answer
what they have and then see the end of their socket, which ends them.
"""
from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nextword.serve.engine.coalesced_writes import Gathering
from nextword.serve.engine.liveness import Silence

AT_ONCE = 64  # questions that a worker has at most: those it answers together, and as many to go on with at once
CHUNK = 1 << 18  # bytes read at a time
GENERATIONS = 256  # are numbered in one byte
_HEAD = struct.Struct("=QI")  # the number, how many bytes follow


class Lost(Exception):
    """The worker failed at the question, or two workers ended while they had it."""


def frame(number: int, content: bytes = b"") -> bytes:
    return _HEAD.pack(number, len(content)) + content


class Frames:
    """Finds the frames in what a socket brings."""

    def __init__(self):
        self._data = bytearray()

    def add(self, data: bytes) -> list[tuple[int, bytes]]:
        """Returns number and content of the frames that are complete now."""
        self._data += data
        found, start = [], 0
        while len(self._data) >= (begin := start + _HEAD.size):
            number, length = _HEAD.unpack_from(self._data, start)
            if len(self._data) < begin + length:
                break
            start = begin + length
            found.append((number, bytes(self._data[begin:start])))
        del self._data[:start]
        return found


class Inbox:
    """A worker's end: the questions that it has and that somebody waits for."""

    def __init__(self, link: socket.socket, model: str):
        self._link, self._frames = link, Frames()
        self._questions: dict[int, bytes] = {}
        link.sendall(frame(0, model.encode()))

    def __contains__(self, number: int) -> bool:
        return number in self._questions

    def first(self, most: int, idle: Callable[[], None]) -> dict[int, bytes]:
        """Waits until there is a question, and returns the first ones; `idle` is called at each sign of life that is asked
        for meanwhile. Raises EOFError when the HTTP process has ended."""
        self.update()
        while not self._questions:
            self._read()
            if not self._questions:
                idle()
        return dict(itertools.islice(self._questions.items(), most))

    def update(self) -> None:
        """Takes in what has come, without waiting."""
        try:
            while True:
                self._read(socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

    def _read(self, flags: int = 0) -> None:
        data = self._link.recv(CHUNK, flags)
        if not data:
            raise EOFError
        for number, content in self._frames.add(data):
            if not number:
                self._link.sendall(frame(0))
            elif content:
                self._questions[number] = content
            else:
                self._questions.pop(number, None)

    def answer(self, answers: Iterable[tuple[int, bytes]]) -> None:
        """Sends answers, which are empty where the worker failed."""
        frames = []
        for number, content in answers:
            self._questions.pop(number, None)
            frames.append(frame(number, content))
        self._link.sendall(b"".join(frames))


@dataclass
class _Question:
    content: bytes
    answer: asyncio.Future
    link: _Link | None = None
    lost: bool = False  # the worker that had it has ended


class Questions:
    """The HTTP process's end: the questions without an answer, and the links to the workers.

    model: the name of what answers.
    """

    def __init__(self, model: str, workers: int):
        self.model, self._workers, self._generation = model, workers, 0
        self._numbers = itertools.count(1)
        self._open: dict[int, _Question] = {}
        self._unsent: OrderedDict[int, _Question] = OrderedDict()
        self._links: list[_Link] = []
        self._coming: list[_Link] = []
        self._known: list[_Link] = []  # all that have been ready, also those of an old generation

    def __len__(self) -> int:
        return len(self._open)

    async def connect(self, link: socket.socket, generation: int, process: int) -> None:
        """Makes a worker one that is asked, from when it says that it is ready until its socket ends."""
        await asyncio.get_running_loop().create_unix_connection(lambda: _Link(self, generation, process), sock=link)

    def silent(self) -> list[int]:
        """Returns the processes of the workers that are as good as dead, and asks all for a sign of life."""
        for link in self._known:
            link.ask_for_sign()
        return [link.process for link in self._known if link.silence.is_too_long()]

    def ask(self, content: bytes) -> tuple[int, asyncio.Future]:
        """Returns the question's number and what will be its answer, or Lost; ends with `close`."""
        number = next(self._numbers)
        question = _Question(content, asyncio.get_running_loop().create_future())
        self._open[number] = self._unsent[number] = question
        self.send()
        return number, question.answer

    def close(self, number: int) -> None:
        """Nobody waits for the answer any more, be it that it is there."""
        question = self._open.pop(number)
        if number in self._unsent:
            del self._unsent[number]
        elif question.link:
            question.link.take_back(number)

    def send(self) -> None:
        """Gives the workers as many questions as they may have."""
        while self._unsent and self._links:
            link = min(self._links, key=lambda link: len(link.numbers))
            if len(link.numbers) >= AT_ONCE:
                break
            number, question = self._unsent.popitem(last=False)
            question.link = link
            link.give(number, question.content)

    def ready(self, link: _Link, model: str) -> None:
        """Has a worker asked from now on, or those of a new generation, together, instead of the old ones."""
        self._known.append(link)
        if link.generation == self._generation:
            self._links.append(link)
            return self.send()
        if (link.generation - self._generation) % GENERATIONS > GENERATIONS // 2:
            return link.retire()  # it was replaced before it was ready
        self._coming.append(link)
        coming = [other for other in self._coming if other.generation == link.generation]
        if len(coming) == self._workers:
            old, self._links, self._generation, self.model = self._links, coming, link.generation, model
            self._coming = [other for other in self._coming if other not in coming]
            for other in old:
                other.retire()
            self.send()

    def answered(self, number: int, content: bytes) -> None:
        question = self._open.get(number)
        if question and not question.answer.done():
            question.link = None
            if content:
                question.answer.set_result(content)
            else:
                question.answer.set_exception(Lost())

    def lost(self, link: _Link) -> None:
        """Has another worker asked what this one had; but not twice, as it may be what ends them."""
        for links in (self._links, self._coming, self._known):
            if link in links:
                links.remove(link)
        for number in sorted(link.numbers, reverse=True):
            question = self._open[number]
            question.link = None
            if question.lost:
                self.answered(number, b"")
            else:
                question.lost = True
                self._unsent[number] = question
                self._unsent.move_to_end(number, last=False)
        self.send()


class _Link(asyncio.Protocol):
    """The way to one worker; `numbers` are those of the questions that it has."""

    def __init__(self, questions: Questions, generation: int, process: int):
        self._questions, self._frames = questions, Frames()
        self.generation, self.process, self.silence = generation, process, Silence(process)
        self.numbers: set[int] = set()
        self._retired = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = Gathering(transport)  # what comes together is answered together

    def give(self, number: int, content: bytes) -> None:
        self.numbers.add(number)
        self._transport.write(frame(number, content))

    def retire(self) -> None:
        """Ends the link when the worker has nothing more to answer."""
        self._retired = True
        if not self.numbers:
            self._transport.close()

    def take_back(self, number: int) -> None:
        self.numbers.discard(number)
        self._transport.write(frame(number))
        self._more()

    def ask_for_sign(self) -> None:
        self._transport.write(frame(0))

    def data_received(self, data: bytes) -> None:
        self.silence.heard = True
        for number, content in self._frames.add(data):
            if number:
                self.numbers.discard(number)
                self._questions.answered(number, content)
            elif content:
                self._questions.ready(self, content.decode())
        self._more()

    def _more(self) -> None:
        if self._retired:
            self.retire()
        self._questions.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._questions.lost(self)
