"""The messages between the HTTP process and a worker: each has a kind, a number and bytes."""
from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple, get_args

from nextword.serve.questions import Question, SharedText

READ_SIZE = 1 << 18  # bytes read from a socket at a time
_KINDS: dict[str, Any] = {kind.operation: kind for kind in get_args(Question)}
_HEAD = struct.Struct("=BQI")  # kind, number, length of the content


class Kind(IntEnum):
    """The kinds of messages.

    Questions and shared texts are numbered by one counter; all other messages have number 0.
    """

    # To a worker
    QUESTION = 1  # a pickled question
    TEXT = 2  # a text that later questions share
    FORGET = 3  # the answer to this question, or this shared text, is no longer needed
    # To a worker, and back
    SIGN_OF_LIFE = 4
    # From a worker
    READY = 5  # the worker takes questions; the content is the name of its model
    ANSWER = 6
    FAILED = 7  # the worker has no answer to this question
    COUNTS = 8  # see `questions.Counts`; sent before the answers of the batch
    REFUSED = 9  # the question cannot be answered; the content is the name of a `StoreFault`


class Frame(NamedTuple):
    kind: int
    number: int
    content: bytes


def frame(kind: Kind, number: int = 0, content: bytes = b"") -> bytes:
    return _HEAD.pack(kind, number, len(content)) + content


class FrameReader:
    """Splits the bytes of a socket into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> list[Frame]:
        """Add bytes, and return the frames that are now complete."""
        self._data += data
        frames, start = [], 0
        while len(self._data) >= (begin := start + _HEAD.size):
            kind, number, length = _HEAD.unpack_from(self._data, start)
            if len(self._data) < begin + length:
                break
            start = begin + length
            frames.append(Frame(kind, number, bytes(self._data[begin:start])))
        del self._data[:start]
        return frames


def pack(question: Question) -> tuple[bytes, SharedText | None]:
    """Pickle a question, with its number in place of a shared text; return the bytes and this text."""
    values = [getattr(question, name) for name in question.__slots__]  # the question itself takes twice as long
    history = getattr(question, "history", "")
    content = pickle.dumps((question.operation, values), pickle.HIGHEST_PROTOCOL)
    return content, history if isinstance(history, SharedText) else None


def unpack(content: bytes, texts: Mapping[int, str]) -> Question:
    """Unpickle a question. texts: number → shared text."""
    operation, values = pickle.loads(content)
    question = _KINDS[operation](*values)
    if isinstance(number := getattr(question, "history", ""), int):
        question.history = texts[number]
    return question
