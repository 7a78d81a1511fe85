"""A worker's end of its socket to the HTTP process: it receives questions and sends answers."""
from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable

from nextword.serve.engine.frames import READ_SIZE, FrameReader, Kind, frame, unpack
from nextword.serve.profiles.faults import StoreFault
from nextword.serve.questions import Counts, Question


class Inbox:
    """The questions without an answer, by their numbers, in the order in which they came."""

    def __init__(self, link: socket.socket, model: str):
        self._link, self._frames = link, FrameReader()
        self._questions: dict[int, Question] = {}
        self._texts: dict[int, str] = {}
        link.sendall(frame(Kind.READY, content=model.encode()))

    def __contains__(self, number: int) -> bool:
        return number in self._questions

    def first(self, count: int, idle: Callable[[], None], work_ahead: Callable[[], bool]) -> dict[int, Question]:
        """Wait for a question, and return the first ones.

        Args:
            count: the most questions to return.
            idle: called whenever the HTTP process asks for a sign of life and there is no question.
            work_ahead: called while there is no question, until it returns False; then again after the next message.

        Raises:
            EOFError: the HTTP process has ended.
        """
        self.update()
        while not self._questions:
            if work_ahead():
                self.update()
                continue
            self._receive()
            if not self._questions:
                idle()
        return dict(itertools.islice(self._questions.items(), count))

    def update(self) -> None:
        """Receive the messages that have come, without waiting."""
        try:
            while True:
                self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

    def _receive(self, flags: int = 0) -> None:
        data = self._link.recv(READ_SIZE, flags)
        if not data:
            raise EOFError
        for kind, number, content in self._frames.add(data):
            if kind == Kind.QUESTION:
                self._questions[number] = unpack(content, self._texts)
            elif kind == Kind.TEXT:
                self._texts[number] = content.decode()
            elif kind == Kind.FORGET:
                self._questions.pop(number, None)
                self._texts.pop(number, None)
            else:
                self._link.sendall(frame(Kind.SIGN_OF_LIFE))

    def answer(self, results: Iterable[tuple[int, bytes | Exception]], counts: Counts) -> None:
        """Send the counts, and then the results.

        A StoreFault as a result refuses the question; another exception means that the worker failed.
        """
        frames = [frame(Kind.COUNTS, content=counts.to_json())]
        for number, result in results:
            self._questions.pop(number, None)
            if isinstance(result, StoreFault):
                frames.append(frame(Kind.REFUSED, number, type(result).__name__.encode()))
            elif isinstance(result, Exception):
                frames.append(frame(Kind.FAILED, number))
            else:
                frames.append(frame(Kind.ANSWER, number, result))
        self._link.sendall(b"".join(frames))
