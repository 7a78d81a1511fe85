"""Talks to the service: `NextWords`, and `AsyncNextWords` for asyncio. Needs httpx and pydantic alone.

    >>> from nextword.serve.client import NextWords
    >>> with NextWords("http://127.0.0.1:8000") as client:
    ...     client.next_words("Thank you very", k=1).words[0].word
    'much'

The errors:

    NextWordsError
    ├── ConnectionFailed      the service cannot be reached, or hung up
    │   └── InvalidAddress    the address is none, or the one of a proxy in the environment cannot be used
    ├── Timeout               no answer within the timeout
    ├── BadRequest            the service refused the request (4xx)
    │   ├── Unauthorized      it wants an API key, or another one (401, 403)
    │   └── RateLimited       too many requests (429): try again later
    ├── ServerError           the service failed (5xx)
    │   └── Unavailable       it is starting or busy (503, 504): try again soon
    └── InvalidAnswer         what came back is not an answer of this service

A service that cannot be reached or answers 429 or 503 is asked again, `retries` times at most, after pauses that double
and are not shorter than the answer's Retry-After; an error comes when that did not help. Asking twice does no harm, as
requests change nothing in the service.

`split_typed` cuts what a person has typed into `text` and `partial`:

    >>> split_typed("Thank you ve")
    ('Thank you ', 've')
"""
from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from nextword.lm.words import split_typed
from nextword.serve.openai_schemas import Completion
from nextword.serve.schemas import NextWordsResponse, NextWordsResults, ScoreResponse

__all__ = [
    "AsyncNextWords",
    "BadRequest",
    "Completion",
    "ConnectionFailed",
    "InvalidAddress",
    "InvalidAnswer",
    "NextWords",
    "NextWordsError",
    "NextWordsResponse",
    "RateLimited",
    "ScoreResponse",
    "ServerError",
    "Timeout",
    "Unauthorized",
    "Unavailable",
    "split_typed",
]

BASE_URL = "http://127.0.0.1:8000"
FIRST_PAUSE = 0.1  # seconds before the second try
LONGEST_PAUSE = 10.0  # seconds; a service that asks for a longer one is not waited for
Answer = TypeVar("Answer", bound=BaseModel)


class NextWordsError(Exception):
    """The root of all errors of this client."""

    passing = False  # whether it may help to try again


class ConnectionFailed(NextWordsError):
    """The service cannot be reached, or it hung up."""

    passing = True


class InvalidAddress(ConnectionFailed):
    """The address, or the proxy that the environment names, cannot be used."""

    passing = False


class Timeout(NextWordsError):
    """No answer within the timeout."""


class InvalidAnswer(NextWordsError):
    """What came back is not an answer of this service: is the address right?"""


class _Fault(BaseModel):
    """What an error says, in the service's own shape or in OpenAI's."""

    type: str
    message: str
    where: str | None = Field(None, validation_alias=AliasChoices("where", "param"))


class _FaultResponse(BaseModel):
    error: _Fault


class _Refused(NextWordsError):
    """An error that the service sent.

    Attributes:
        status: the HTTP status.
        type: the error's kind, a word such as "invalid_request".
        where: the place in the request that it is about, or None.
        retry_after: seconds after which the service wants to be asked again, or None.
    """

    def __init__(self, status: int, fault: _Fault, retry_after: float | None = None):
        super().__init__(fault.message)
        self.status = status
        self.type = fault.type
        self.where = fault.where
        self.retry_after = retry_after


class BadRequest(_Refused):
    """The service refused the request (4xx); the message says what to change."""


class Unauthorized(BadRequest):
    """The service wants an API key, or another one (401, 403)."""


class RateLimited(BadRequest):
    """Too many requests (429); try again later."""

    passing = True


class ServerError(_Refused):
    """The service failed at the request (5xx)."""


class Unavailable(ServerError):
    """The service is starting or busy (503, 504); try again soon."""

    def __init__(self, status: int, fault: _Fault, retry_after: float | None = None):
        super().__init__(status, fault, retry_after)
        self.passing = status == 503  # after a 504, another request would keep the service busy


_ERRORS = {401: Unauthorized, 403: Unauthorized, 429: RateLimited, 503: Unavailable, 504: Unavailable}


class _Service:
    """What the two clients share: how a request is made, what an answer means, when to ask again."""

    def __init__(self, base_url: str, retries: int):
        self.base_url = base_url
        self._retries = retries

    @staticmethod
    def _settings(base_url: str, api_key: str | None, timeout: float | None,
                  transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None) -> dict[str, Any]:
        # By the session a balancer can send all questions of a client to the one service that knows its text.
        headers: dict[str, str | bytes] = {"content-type": "application/json", "x-session": uuid.uuid4().hex}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key}".encode()
        # A proxy that the environment names would not reach this machine's own addresses.
        return {"base_url": base_url, "headers": headers, "timeout": timeout, "transport": transport,
                "trust_env": not _is_loopback(base_url)}

    @staticmethod
    def _post(path: str, *, session: str | None = None, **fields: Any) -> dict[str, Any]:
        """Only what is given is sent, so that older services understand it."""
        if isinstance(fields.get("exclude"), str):
            raise TypeError("exclude takes several words, such as ['store'], not one string")
        given = {name: value for name, value in fields.items() if value is not None}
        # ASCII, as a lone surrogate has no UTF-8: it is then the service that refuses it, and says where.
        request = {"method": "POST", "url": path, "content": json.dumps(given, default=list).encode()}
        return request if session is None else {**request, "headers": {"x-session": quote(session)}}

    @staticmethod
    def _read(response: httpx.Response, answer: type[Answer]) -> Answer:
        try:
            if response.is_success:
                return answer.model_validate_json(response.content)
            fault = _FaultResponse.model_validate_json(response.content).error
        except ValidationError:
            raise InvalidAnswer(
                f"{response.url} answered with status {response.status_code} and no {answer.__name__}"
            ) from None
        kind = _ERRORS.get(response.status_code, BadRequest if response.is_client_error else ServerError)
        retry_after = response.headers.get("retry-after", "")
        raise kind(response.status_code, fault, float(retry_after) if retry_after.isdecimal() else None)

    def _pause(self, error: NextWordsError, attempt: int) -> float:
        """Returns the seconds to wait before trying again, or raises the error where that is not to be done."""
        least = getattr(error, "retry_after", None) or 0
        if not error.passing or attempt >= self._retries or least > LONGEST_PAUSE:
            raise error
        # Not all who were sent away come back at the same moment.
        return max(least, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)) * random.uniform(1, 1.5)


class _Pieces:
    """Reads the events of a streamed completion."""

    def __init__(self, base_url: str):
        self.begun = False
        self._base_url = base_url
        self._rest = b""
        self._done = False

    def feed(self, part: bytes) -> Iterator[str]:
        """Yields the texts of the events that are complete."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield from self._texts(line[len(b"data: "):].strip())

    def _texts(self, data: bytes) -> Iterator[str]:
        if data == b"[DONE]":
            self._done = True
            return
        try:
            choices = Completion.model_validate_json(data).choices
        except ValidationError:
            raise self._fault(data) from None
        for choice in choices:
            self.begun = True
            if choice.text:
                yield choice.text

    def _fault(self, data: bytes) -> NextWordsError:
        try:
            fault = _FaultResponse.model_validate_json(data).error
        except ValidationError:
            return InvalidAnswer(f"{self._base_url} sent an event that is no Completion")
        status = {"service_unavailable": 503, "timeout": 504}.get(fault.type, 500)
        return _ERRORS.get(status, ServerError)(status, fault)

    def finish(self) -> None:
        """Raises where the text's end has not come."""
        if self._done:
            return
        if self.begun:
            raise ConnectionFailed(f"{self._base_url} hung up before the text's end")
        raise InvalidAnswer(f"{self._base_url} answered with no stream of Completions")


@contextlib.contextmanager
def _proxy_errors() -> Iterator[None]:
    """Around the making of an httpx client, which reads HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."""
    try:
        yield
    except (ImportError, ValueError) as error:
        raise InvalidAddress(f"the proxy that the environment names cannot be used: {error}") from error


def _is_loopback(base_url: str) -> bool:
    host = httpx.URL(base_url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@contextlib.contextmanager
def _own_errors(base_url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise Timeout(f"{base_url} did not answer in time ({type(error).__name__})") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise InvalidAddress(f"{base_url} is no address of a service: {error}") from error
    except httpx.RequestError as error:
        raise ConnectionFailed(f"{base_url} cannot be reached: {error}") from error


class NextWords(_Service):
    """A client that keeps its connections open between requests; use it with `with`, or `close` it.

    It may be shared between threads.

    Args:
        base_url: where the service is.
        api_key: the key, where the service wants one.
        timeout: seconds for each of connecting, sending, and waiting for (more of) the answer; None waits for ever.
        retries: how often to ask again a service that is busy or cannot be reached.
        transport: an `httpx` transport in place of the network, for tests.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        api_key: str | None = None,
        timeout: float | None = 5.0,
        retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ):
        super().__init__(base_url, retries)
        with _own_errors(base_url), _proxy_errors():
            self._http = httpx.Client(**self._settings(base_url, api_key, timeout, transport))

    def next_words(
        self,
        text: str = "",
        k: int | None = None,
        *,
        partial: str | None = None,
        history: str | None = None,
        punctuation: bool | None = None,
        emoji: bool | None = None,
        exclude: Collection[str] | None = None,
        max_words: int | None = None,
        session: str | None = None,
    ) -> NextWordsResponse:
        """Returns the likeliest words after `text`, best first; fewer than `k` where fewer fit.

        Args:
            text: what has been written so far; "" is the start of a text.
            k: how many, 1 to 100; 5 if it is not given.
            partial: the beginning of the word that is being typed, which is not part of `text`; `split_typed` finds it.
            history: earlier text of the same person, whose words become likelier.
            punctuation: whether punctuation marks and numbers are suggested too.
            emoji: whether emoji are suggested too.
            exclude: words that are never wanted.
            max_words: suggest phrases of up to so many words where they are likely enough; else single words.
            session: names who writes, where this client asks for several people: with it a balancer in front of
                several services can keep to the one that knows the text. By default all is of one session.

        Raises:
            NextWordsError: see the module's list.

        >>> client = NextWords("http://127.0.0.1:8000")
        >>> [word.word for word in client.next_words("Thank you", k=1, partial="v").words]
        ['very']
        >>> client.next_words("Thank you", k=0)
        Traceback (most recent call last):
        nextword.serve.client.BadRequest: k: Input should be greater than or equal to 1; it is 0
        >>> client.close()
        """
        request = self._post("/v1/next-words", text=text, k=k, partial=partial, history=history,
                             punctuation=punctuation, emoji=emoji, exclude=exclude, max_words=max_words,
                             session=session)
        return self._send(request, NextWordsResponse)

    def next_words_each(self, texts: Iterable[str], k: int | None = None, **options: Any) -> list[NextWordsResponse]:
        """`next_words` for each of several texts, in one request; the options are the same and hold for all of them.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     [answer.words[0].word for answer in client.next_words_each(["Thank", "Thank you very"], k=1)]
        ['you', 'much']
        """
        request = self._post("/v1/next-words", text=list(texts), k=k, **options)
        return self._send(request, NextWordsResults).results

    def score(self, text: str) -> ScoreResponse:
        """Returns how probable a text is, word by word and as a whole: to choose among candidates.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     candidates = ["Thank you very match", "Thank you very much"]
        ...     max(candidates, key=lambda text: client.score(text).logprob)
        'Thank you very much'
        """
        return self._send(self._post("/v1/score", text=text), ScoreResponse)

    def complete(
        self,
        prompt: str | list[str],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        n: int | None = None,
        stop: str | Collection[str] | None = None,
        seed: int | None = None,
        echo: bool | None = None,
        logprobs: int | None = None,
    ) -> Completion:
        """Writes a text on. What is not given is as the service has it; /docs describes it.

        Args:
            prompt: what has been written so far, or several such texts.
            max_tokens: how many words and punctuation marks to write.
            temperature: 0 always takes the likeliest word; 1 draws by the model's probabilities; up to 2.
            top_p: draw only among the likeliest words that have this probability together.
            n: how many texts for each prompt.
            stop: a text, or several, before which to end.
            seed: the same question with the same seed gives the same text.
            echo: whether the text begins with the prompt.
            logprobs: asks for the log-probability of each token, and of so many of the likeliest in its place.

        Raises:
            NextWordsError: see the module's list.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     client.complete("Thank you very", max_tokens=1, temperature=0).choices[0].text
        ' much'
        """
        request = self._post("/v1/completions", prompt=prompt, max_tokens=max_tokens, temperature=temperature,
                             top_p=top_p, n=n, stop=stop, seed=seed, echo=echo, logprobs=logprobs)
        return self._send(request, Completion)

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Collection[str] | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """`complete` as an iterator of the text's pieces, as they are written; what has left off stops the service too.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     for piece in client.stream("Thank you", max_tokens=2, temperature=0):
        ...         print(repr(piece))
        ' very'
        ' much'
        """
        request = self._post("/v1/completions", prompt=prompt, max_tokens=max_tokens, temperature=temperature,
                             top_p=top_p, stop=stop, seed=seed, stream=True)
        for attempt in itertools.count():
            pieces = _Pieces(self.base_url)
            try:
                with _own_errors(self.base_url), self._http.stream(**request) as response:
                    if not response.is_success:
                        response.read()
                        self._read(response, Completion)
                    for part in response.iter_bytes():
                        yield from pieces.feed(part)
                    return pieces.finish()
            except NextWordsError as error:
                if pieces.begun:
                    raise
                time.sleep(self._pause(error, attempt))

    def _send(self, request: dict, answer: type[Answer]) -> Answer:
        for attempt in itertools.count():
            try:
                with _own_errors(self.base_url):
                    response = self._http.request(**request)
                return self._read(response, answer)
            except NextWordsError as error:
                time.sleep(self._pause(error, attempt))
        raise AssertionError("the loop has no end")

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> NextWords:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncNextWords(_Service):
    """`NextWords` for asyncio: the same methods, to be awaited; use it with `async with`, or `aclose` it.

    >>> import asyncio
    >>> async def ask():
    ...     async with AsyncNextWords("http://127.0.0.1:8000") as client:
    ...         return [piece async for piece in client.stream("Thank you", max_tokens=2, temperature=0)]
    >>> asyncio.run(ask())
    [' very', ' much']
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        api_key: str | None = None,
        timeout: float | None = 5.0,
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ):
        super().__init__(base_url, retries)
        with _own_errors(base_url), _proxy_errors():
            self._http = httpx.AsyncClient(**self._settings(base_url, api_key, timeout, transport))

    async def next_words(
        self,
        text: str = "",
        k: int | None = None,
        *,
        partial: str | None = None,
        history: str | None = None,
        punctuation: bool | None = None,
        emoji: bool | None = None,
        exclude: Collection[str] | None = None,
        max_words: int | None = None,
        session: str | None = None,
    ) -> NextWordsResponse:
        """See `NextWords.next_words`."""
        request = self._post("/v1/next-words", text=text, k=k, partial=partial, history=history,
                             punctuation=punctuation, emoji=emoji, exclude=exclude, max_words=max_words,
                             session=session)
        return await self._send(request, NextWordsResponse)

    async def next_words_each(self, texts: Iterable[str], k: int | None = None, **options: Any
                              ) -> list[NextWordsResponse]:
        """See `NextWords.next_words_each`."""
        request = self._post("/v1/next-words", text=list(texts), k=k, **options)
        return (await self._send(request, NextWordsResults)).results

    async def score(self, text: str) -> ScoreResponse:
        """See `NextWords.score`."""
        return await self._send(self._post("/v1/score", text=text), ScoreResponse)

    async def complete(
        self,
        prompt: str | list[str],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        n: int | None = None,
        stop: str | Collection[str] | None = None,
        seed: int | None = None,
        echo: bool | None = None,
        logprobs: int | None = None,
    ) -> Completion:
        """See `NextWords.complete`."""
        request = self._post("/v1/completions", prompt=prompt, max_tokens=max_tokens, temperature=temperature,
                             top_p=top_p, n=n, stop=stop, seed=seed, echo=echo, logprobs=logprobs)
        return await self._send(request, Completion)

    async def stream(
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Collection[str] | None = None,
        seed: int | None = None,
    ) -> AsyncIterator[str]:
        """See `NextWords.stream`; iterate over it with `async for`."""
        request = self._post("/v1/completions", prompt=prompt, max_tokens=max_tokens, temperature=temperature,
                             top_p=top_p, stop=stop, seed=seed, stream=True)
        for attempt in itertools.count():
            pieces = _Pieces(self.base_url)
            try:
                with _own_errors(self.base_url):
                    async with self._http.stream(**request) as response:
                        if not response.is_success:
                            await response.aread()
                            self._read(response, Completion)
                        async for part in response.aiter_bytes():
                            for piece in pieces.feed(part):
                                yield piece
                        pieces.finish()
                        return
            except NextWordsError as error:
                if pieces.begun:
                    raise
                await asyncio.sleep(self._pause(error, attempt))

    async def _send(self, request: dict, answer: type[Answer]) -> Answer:
        for attempt in itertools.count():
            try:
                with _own_errors(self.base_url):
                    response = await self._http.request(**request)
                return self._read(response, answer)
            except NextWordsError as error:
                await asyncio.sleep(self._pause(error, attempt))
        raise AssertionError("the loop has no end")

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncNextWords:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
