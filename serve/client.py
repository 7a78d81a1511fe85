"""Talks to the service: `NextWords`, and `AsyncNextWords` for asyncio. Needs httpx and pydantic alone.

    >>> from serve.client import NextWords
    >>> with NextWords("http://127.0.0.1:8000") as client:          # doctest: +SKIP
    ...     for word in client.next_words("I went to the", k=3).words:
    ...         print(f"{word.word} {word.probability:.3f}")

The errors:

    NextWordsError
    ├── ConnectionFailed    the service cannot be reached, or hung up
    ├── Timeout             no answer within the timeout
    ├── BadRequest          the service refused the request (4xx)
    ├── ServerError         the service failed (5xx)
    │   └── Unavailable     it is starting or busy (503, 504): try again soon
    └── InvalidAnswer       what came back is not an answer of this service
"""
from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from serve.schemas import ErrorDetail, ErrorResponse, NextWordsResponse

__all__ = [
    "AsyncNextWords",
    "BadRequest",
    "ConnectionFailed",
    "InvalidAnswer",
    "NextWords",
    "NextWordsError",
    "NextWordsResponse",
    "ServerError",
    "Timeout",
    "Unavailable",
]

BASE_URL = "http://127.0.0.1:8000"
Answer = TypeVar("Answer", bound=BaseModel)


class NextWordsError(Exception):
    """The root of all errors of this client."""


class ConnectionFailed(NextWordsError):
    """The service cannot be reached, or it hung up."""


class Timeout(NextWordsError):
    """No answer within the timeout."""


class InvalidAnswer(NextWordsError):
    """What came back is not an answer of this service: is the address right?"""


class _Refused(NextWordsError):
    """An error that the service sent.

    Attributes:
        status: the HTTP status.
        type: the error's kind, a word such as "invalid_request".
        where: the place in the request that it is about, or None.
    """

    def __init__(self, status: int, detail: ErrorDetail):
        super().__init__(detail.message)
        self.status = status
        self.type = detail.type
        self.where = detail.where


class BadRequest(_Refused):
    """The service refused the request (4xx); the message says what to change."""


class ServerError(_Refused):
    """The service failed at the request (5xx)."""


class Unavailable(ServerError):
    """The service is starting or busy (503, 504); try again soon."""


class _Service:
    """What the two clients share: how a request is made, and what an answer means."""

    @staticmethod
    def _post(path: str, fields: dict) -> dict:
        # ASCII, as a lone surrogate has no UTF-8: it is then the service that refuses it, and says where.
        return {
            "method": "POST",
            "url": path,
            "content": json.dumps(fields).encode(),
            "headers": {"content-type": "application/json"},
        }

    def _next_words(self, text: str, k: int, partial: str, punctuation: bool, exclude: Iterable[str]) -> dict:
        if isinstance(exclude, str):
            raise TypeError("exclude takes several words, such as ['store'], not one string")
        fields = {"text": text, "k": k, "partial": partial, "punctuation": punctuation, "exclude": list(exclude)}
        return self._post("/v1/next-words", fields)

    @staticmethod
    def _read(response: httpx.Response, answer: type[Answer]) -> Answer:
        try:
            if response.is_success:
                return answer.model_validate_json(response.content)
            detail = ErrorResponse.model_validate_json(response.content).error
        except ValidationError:
            raise InvalidAnswer(
                f"{response.url} answered with status {response.status_code} and no {answer.__name__}"
            ) from None
        if response.is_client_error:
            raise BadRequest(response.status_code, detail)
        raise (Unavailable if response.status_code in (503, 504) else ServerError)(response.status_code, detail)


@contextlib.contextmanager
def _own_errors(base_url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise Timeout(f"{base_url} did not answer in time ({type(error).__name__})") from error
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise ConnectionFailed(f"{base_url} cannot be reached: {error}") from error


class NextWords(_Service):
    """A client that keeps its connections open between requests; use it with `with`, or `close` it.

    It may be shared between threads.

    Args:
        base_url: where the service is.
        timeout: seconds for each of connecting, sending, and waiting for the answer; None waits for ever.
        transport: an `httpx` transport in place of the network, for tests.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float | None = 5.0,
        transport: httpx.BaseTransport | None = None,
    ):
        with _own_errors(base_url):
            self._http = httpx.Client(base_url=base_url, timeout=timeout, transport=transport)
        self.base_url = base_url

    def next_words(
        self,
        text: str = "",
        k: int = 5,
        *,
        partial: str = "",
        punctuation: bool = False,
        exclude: Iterable[str] = (),
    ) -> NextWordsResponse:
        """Returns the `k` likeliest words after `text`, best first; fewer where fewer fit.

        Args:
            text: what has been written so far; "" is the start of a text.
            k: 1 to 100.
            partial: the beginning of the word that is being typed, which is not part of `text`.
            punctuation: whether punctuation marks are suggested too.
            exclude: words that are never wanted.

        Raises:
            NextWordsError: see the module's list.
        """
        return self._send(self._next_words(text, k, partial, punctuation, exclude), NextWordsResponse)

    def _send(self, request: dict, answer: type[Answer]) -> Answer:
        with _own_errors(self.base_url):
            response = self._http.request(**request)
        return self._read(response, answer)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> NextWords:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class AsyncNextWords(_Service):
    """`NextWords` for asyncio: the same methods, to be awaited; use it with `async with`, or `aclose` it.

    Args:
        base_url: where the service is.
        timeout: seconds for each of connecting, sending, and waiting for the answer; None waits for ever.
        transport: an `httpx` transport in place of the network, for tests.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float | None = 5.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ):
        with _own_errors(base_url):
            self._http = httpx.AsyncClient(base_url=base_url, timeout=timeout, transport=transport)
        self.base_url = base_url

    async def next_words(
        self,
        text: str = "",
        k: int = 5,
        *,
        partial: str = "",
        punctuation: bool = False,
        exclude: Iterable[str] = (),
    ) -> NextWordsResponse:
        """See `NextWords.next_words`."""
        return await self._send(self._next_words(text, k, partial, punctuation, exclude), NextWordsResponse)

    async def _send(self, request: dict, answer: type[Answer]) -> Answer:
        with _own_errors(self.base_url):
            response = await self._http.request(**request)
        return self._read(response, answer)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncNextWords:
        return self

    async def __aexit__(self, *exception) -> None:
        await self.aclose()
