"""A client of the service: `NextWords`, and `AsyncNextWords` for asyncio. It needs httpx and pydantic alone.

    >>> from nextword.serve.client import NextWords
    >>> with NextWords("http://127.0.0.1:8000") as client:
    ...     client.next_words("Thank you very", k=1).words[0].word
    'much'

The errors:

    NextWordsError
    ├── ConnectionFailed      the service cannot be reached, or hung up
    │   └── InvalidAddress    the address, or the proxy that the environment names, cannot be used
    ├── Timeout               no answer within the timeout
    ├── BadRequest            the service refused the request (4xx)
    │   ├── Unauthorized      the API key is missing or wrong (401, 403)
    │   └── RateLimited       too many requests (429): try again later
    ├── ServerError           the service failed (5xx)
    │   └── Unavailable       it is starting or busy (503, 504): try again soon
    └── InvalidAnswer         the answer does not come from this service

The client sends a request again if the service cannot be reached or answers 429 or 503, at most `retries` times. The
pauses double, and they are at least as long as the answer's Retry-After. After the last try the error is raised. A
second try does no harm: a text for a profile has an id, so it is learned once.

`split_typed` cuts a typed text into `text` and `partial`:

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
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from urllib.parse import quote
from urllib.request import getproxies

import httpx
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from nextword.lm.words import split_typed
from nextword.serve.client_profiles import AsyncProfile, Profile, awaited
from nextword.serve.openai_schemas import Completion
from nextword.serve.profile_schemas import ProfileExport
from nextword.serve.schemas import NextLettersResponse, NextWordsResponse, NextWordsResults, ScoreResponse

__all__ = [
    "AsyncNextWords",
    "AsyncProfile",
    "BadRequest",
    "Completion",
    "ConnectionFailed",
    "InvalidAddress",
    "InvalidAnswer",
    "NextLettersResponse",
    "NextWords",
    "NextWordsError",
    "NextWordsResponse",
    "Profile",
    "ProfileExport",
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
LONGEST_PAUSE = 10.0  # seconds; where the service asks for a longer pause, the error is raised at once
Answer = TypeVar("Answer", bound=BaseModel)
Options = ParamSpec("Options")


class NextWordsError(Exception):
    """The root of all errors of this client."""

    passing = False  # True: another try may succeed


class ConnectionFailed(NextWordsError):
    """The service cannot be reached, or it hung up."""

    passing = True


class InvalidAddress(ConnectionFailed):
    """The address, or the proxy that the environment names, cannot be used."""

    passing = False


class Timeout(NextWordsError):
    """No answer within the timeout."""


class InvalidAnswer(NextWordsError):
    """The answer does not come from this service: is the address right?"""


class _Fault(BaseModel):
    """The body of an error, in the service's own shape or in OpenAI's."""

    type: str
    message: str
    where: str | None = Field(None, validation_alias=AliasChoices("where", "param"))


class _FaultResponse(BaseModel):
    error: _Fault


class _Refused(NextWordsError):
    """An error that the service sent.

    Attributes:
        status: the HTTP status.
        type: the kind of error, such as "invalid_request".
        where: the field of the request that is wrong, or None.
        retry_after: seconds after which the service accepts another try, or None.
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
    """The API key is missing or wrong (401, 403)."""


class RateLimited(BadRequest):
    """Too many requests (429); try again later."""

    passing = True


class ServerError(_Refused):
    """The service failed (5xx)."""


class Unavailable(ServerError):
    """The service is starting or busy (503, 504); try again soon."""

    def __init__(self, status: int, fault: _Fault, retry_after: float | None = None):
        super().__init__(status, fault, retry_after)
        self.passing = status == 503  # after a 504, another request would keep the service busy


_ERRORS = {401: Unauthorized, 403: Unauthorized, 429: RateLimited, 503: Unavailable, 504: Unavailable}


class _Client:
    """The common part of both clients: settings, requests, errors and pauses."""

    _http_class: type[Any]

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        api_key: str | None = None,
        timeout: float | None = 5.0,
        retries: int = 2,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ):
        self.base_url = base_url
        self._retries = retries
        # The session lets a balancer send all requests of a client to the one service that has its text in memory.
        headers: dict[str, str | bytes] = {"content-type": "application/json", "x-session": uuid.uuid4().hex}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key}".encode()
        with _own_errors(base_url), _proxy_errors():
            # A proxy from the environment would not reach this machine's own addresses.
            self._http = self._http_class(base_url=base_url, headers=headers, timeout=timeout, transport=transport,
                                          trust_env=not _is_loopback(base_url))

    @staticmethod
    def _request(path: str, *, method: str = "POST", session: str | None = None, **fields: Any) -> dict[str, Any]:
        """Return httpx's arguments. Fields that are None are left out, so older services understand it."""
        if isinstance(fields.get("exclude"), str):
            raise TypeError("exclude takes several words, such as ['store'], not one string")
        body = {name: value for name, value in fields.items() if value is not None}
        # ASCII, because a lone surrogate has no UTF-8. The service then refuses it and names the field.
        if isinstance(profile := body.get("profile"), Profile | AsyncProfile):
            body["profile"] = profile.name
        request: dict[str, Any] = {"method": method, "url": path}
        if method in ("POST", "PUT"):
            request["content"] = json.dumps(body, default=list).encode()
        return request if session is None else {**request, "headers": {"x-session": quote(session)}}

    @staticmethod
    def _parse(response: httpx.Response, answer: type[Answer]) -> Answer:
        try:
            if response.is_success:
                return answer.model_validate_json(response.content)
            fault = _FaultResponse.model_validate_json(response.content).error
        except ValidationError:
            raise InvalidAnswer(
                f"{response.url} answered with status {response.status_code} and no {answer.__name__}"
            ) from None
        error = _ERRORS.get(response.status_code, BadRequest if response.is_client_error else ServerError)
        retry_after = response.headers.get("retry-after", "")
        raise error(response.status_code, fault, float(retry_after) if retry_after.isdecimal() else None)

    def _pause(self, error: NextWordsError, attempt: int) -> float:
        """Return the seconds before the next try, or raise the error where there is no next try."""
        least = getattr(error, "retry_after", None) or 0
        if not error.passing or attempt >= self._retries or least > LONGEST_PAUSE:
            raise error
        # Random, so that refused clients do not all return at the same moment.
        return max(least, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)) * random.uniform(1, 1.5)


class _Pieces:
    """Parses the events of a streamed completion."""

    def __init__(self, base_url: str):
        self.begun = False  # True from the first piece on
        self._base_url = base_url
        self._rest = b""
        self._done = False

    def feed(self, part: bytes) -> Iterator[str]:
        """Yield the texts of the complete events."""
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
        """Raise an error if the stream stopped before the end of the text."""
        if self._done:
            return
        if self.begun:
            raise ConnectionFailed(f"{self._base_url} hung up before the end of the text")
        raise InvalidAnswer(f"{self._base_url} answered with no stream of Completions")


@contextlib.contextmanager
def _proxy_errors() -> Iterator[None]:
    """Raise InvalidAddress where an httpx client cannot use HTTP_PROXY, HTTPS_PROXY or ALL_PROXY."""
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
    """Raise the errors of httpx as errors of this client."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise Timeout(f"{base_url} did not answer in time ({type(error).__name__}){_by_proxy(base_url)}") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise InvalidAddress(f"{base_url} is no address of a service: {error}") from error
    except httpx.RequestError as error:
        raise ConnectionFailed(f"{base_url} cannot be reached: {error}{_by_proxy(base_url)}") from error


def _by_proxy(base_url: str) -> str:
    """Return a part of a message that tells of a proxy, if the environment names one for this address."""
    if _is_loopback(base_url) or not getproxies().keys() & {"http", "https", "all"}:
        return ""
    return "; the environment names a proxy (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY)"


class NextWords(_Client):
    """A client that keeps its connections open between requests; use it with `with`, or `close` it.

    Threads may share it.

    Args:
        base_url: the address of the service.
        api_key: the key, where the service needs one.
        timeout: seconds for each of connecting, sending, and waiting for the next part of the answer; None: no limit.
        retries: the most tries after the first one, where the service is busy or cannot be reached.
        transport: an `httpx` transport in place of the network, for tests.
    """

    _http_class = httpx.Client

    def next_words(
        self,
        text: str = "",
        k: int | None = None,
        *,
        partial: str | None = None,
        history: str | None = None,
        profile: str | Profile | AsyncProfile | None = None,
        punctuation: bool | None = None,
        emoji: bool | None = None,
        exclude: Collection[str] | None = None,
        max_words: int | None = None,
        typos: bool | None = None,
        layout: str | Mapping[str, Sequence[float]] | None = None,
        session: str | None = None,
    ) -> NextWordsResponse:
        """Return the likeliest words after `text`, best first; fewer than `k` if fewer fit.

        Args:
            text: the text so far; "" is the start of a text.
            k: the number of suggestions, 1 to 100; 5 by default.
            partial: the first letters of the word that is being typed; `text` ends before them. See `split_typed`.
            history: earlier text of the same person. Its words become likelier.
            profile: the person's profile, or its name; what it has learned becomes likelier. See `profile`.
            punctuation: True: suggest punctuation marks and numbers too.
            emoji: True: suggest emoji too.
            exclude: words that are never suggested.
            max_words: the most words of one suggestion; longer phrases are suggested only where they are likely.
            typos: False: suggest only words that begin with `partial` to the letter. By default one slip of the finger
                is corrected; such a word has the kind "correction" and a confidence.
            layout: the keyboard, whose neighbouring keys are likely slips: "qwerty", "qwertz", "azerty", "dvorak", or
                the place (x, y) of each key. By default that of the service's settings.
            session: a name for the writer, if this client serves several people. A balancer in front of several
                services can send a session to the one that has its text. By default a client is one session.

        Raises:
            NextWordsError: see the module's list.

        >>> client = NextWords("http://127.0.0.1:8000")
        >>> [word.word for word in client.next_words("Thank you", k=1, partial="v").words]
        ['very']
        >>> [(word.word, word.kind) for word in client.next_words("Thank you", k=1, partial="vrey").words]
        [('very', 'correction')]
        >>> client.next_words("Thank you", k=0)
        Traceback (most recent call last):
        nextword.serve.client.BadRequest: k: Input should be greater than or equal to 1; it is 0
        >>> client.close()
        """
        request = self._request("/v1/next-words", text=text, k=k, partial=partial, history=history,
                                profile=profile, punctuation=punctuation, emoji=emoji, exclude=exclude,
                                max_words=max_words, typos=typos, layout=layout, session=session)
        return self._send(request, NextWordsResponse)

    def next_words_each(self, texts: Iterable[str], k: int | None = None, **options: Any) -> list[NextWordsResponse]:
        """Return the answer of `next_words` for each text, in one request; the options hold for all texts.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     [answer.words[0].word for answer in client.next_words_each(["Thank", "Thank you very"], k=1)]
        ['you', 'much']
        """
        request = self._request("/v1/next-words", text=list(texts), k=k, **options)
        return self._send(request, NextWordsResults).results

    def next_letters(self, text: str = "", *, partial: str | None = None, history: str | None = None,
                     profile: str | Profile | AsyncProfile | None = None, session: str | None = None
                     ) -> NextLettersResponse:
        """Return the probability of each letter after `partial`, and that of the end of the word; they sum to 1.

        text, history, profile, session: as in `next_words`. partial: the first letters of the word that is being typed.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     client.next_letters("Thank you very", partial="mu").letters[0].letter
        'c'
        """
        request = self._request("/v1/next-letters", text=text, partial=partial, history=history, profile=profile,
                                session=session)
        return self._send(request, NextLettersResponse)

    def score(self, text: str, *, profile: str | Profile | AsyncProfile | None = None) -> ScoreResponse:
        """Return the log-probability of a text and of each of its words, for instance to choose among candidates.

        profile: the person's profile, or its name.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     candidates = ["Thank you very match", "Thank you very much"]
        ...     max(candidates, key=lambda text: client.score(text).logprob)
        'Thank you very much'
        """
        return self._send(self._request("/v1/score", text=text, profile=profile), ScoreResponse)

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
        profile: str | Profile | AsyncProfile | None = None,
    ) -> Completion:
        """Continue a text. The service has a default for each option; /docs lists them.

        Args:
            prompt: the text so far, or several texts.
            max_tokens: the most words and punctuation marks to write.
            temperature: 0 always takes the likeliest word; 1 draws by the model's probabilities; at most 2.
            top_p: draw only among the likeliest words whose probabilities sum to this.
            n: the number of texts for each prompt.
            stop: one or several texts; writing stops before the first of them.
            seed: the same request with the same seed gives the same text.
            echo: True: the answer begins with the prompt.
            logprobs: return the log-probability of each token, and of this many likeliest tokens at its place.
            profile: the person's profile, or its name.

        Raises:
            NextWordsError: see the module's list.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     client.complete("Thank you very", max_tokens=1, temperature=0).choices[0].text
        ' much'
        """
        request = self._request("/v1/completions", prompt=prompt, max_tokens=max_tokens, temperature=temperature,
                                top_p=top_p, n=n, stop=stop, seed=seed, echo=echo, logprobs=logprobs, profile=profile)
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
        profile: str | Profile | AsyncProfile | None = None,
    ) -> Iterator[str]:
        """Yield the pieces of `complete`'s text as they are written. If the caller stops early, the service stops too.

        >>> with NextWords("http://127.0.0.1:8000") as client:
        ...     for piece in client.stream("Thank you", max_tokens=2, temperature=0):
        ...         print(repr(piece))
        ' very'
        ' much'
        """
        request = self._request("/v1/completions", prompt=prompt, max_tokens=max_tokens, temperature=temperature,
                                top_p=top_p, stop=stop, seed=seed, profile=profile, stream=True)
        return self._stream(request)

    def profile(self, name: str) -> Profile:
        """Return the profile of a person, to teach it and to ask with it. No request is sent yet."""
        return Profile(self, name)

    def _stream(self, request: dict[str, Any]) -> Iterator[str]:
        for attempt in itertools.count():
            pieces = _Pieces(self.base_url)
            try:
                with _own_errors(self.base_url), self._http.stream(**request) as response:
                    if not response.is_success:
                        response.read()
                        self._parse(response, Completion)
                    for part in response.iter_bytes():
                        yield from pieces.feed(part)
                    return pieces.finish()
            except NextWordsError as error:
                if pieces.begun:
                    raise
                time.sleep(self._pause(error, attempt))

    def _send(self, request: dict[str, Any], answer: type[Answer]) -> Answer:
        for attempt in itertools.count():
            try:
                with _own_errors(self.base_url):
                    response = self._http.request(**request)
                return self._parse(response, answer)
            except NextWordsError as error:
                time.sleep(self._pause(error, attempt))
        raise AssertionError("the loop has no end")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> NextWords:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _iterated(
    method: Callable[Concatenate[NextWords, Options], Iterator[str]],
) -> Callable[Concatenate[AsyncNextWords, Options], AsyncIterator[str]]:
    """Return the same method as one of `AsyncNextWords`, whose `_stream` is asynchronous."""
    return cast(Any, method)


class AsyncNextWords(_Client):
    """`NextWords` for asyncio, with the same methods; use it with `async with`, or `aclose` it.

    Await the methods; iterate over `stream` with `async for`.

    >>> import asyncio
    >>> async def ask():
    ...     async with AsyncNextWords("http://127.0.0.1:8000") as client:
    ...         return [piece async for piece in client.stream("Thank you", max_tokens=2, temperature=0)]
    >>> asyncio.run(ask())
    [' very', ' much']
    """

    _http_class = httpx.AsyncClient

    next_words = awaited(NextWords.next_words)
    next_letters = awaited(NextWords.next_letters)
    score = awaited(NextWords.score)
    complete = awaited(NextWords.complete)
    stream = _iterated(NextWords.stream)

    async def next_words_each(self, texts: Iterable[str], k: int | None = None, **options: Any
                              ) -> list[NextWordsResponse]:
        """See `NextWords.next_words_each`."""
        request = self._request("/v1/next-words", text=list(texts), k=k, **options)
        return (await self._send(request, NextWordsResults)).results

    def profile(self, name: str) -> AsyncProfile:
        """See `NextWords.profile`."""
        return AsyncProfile(self, name)

    async def _stream(self, request: dict[str, Any]) -> AsyncIterator[str]:
        for attempt in itertools.count():
            pieces = _Pieces(self.base_url)
            try:
                with _own_errors(self.base_url):
                    async with self._http.stream(**request) as response:
                        if not response.is_success:
                            await response.aread()
                            self._parse(response, Completion)
                        async for part in response.aiter_bytes():
                            for piece in pieces.feed(part):
                                yield piece
                        pieces.finish()
                        return
            except NextWordsError as error:
                if pieces.begun:
                    raise
                await asyncio.sleep(self._pause(error, attempt))

    async def _send(self, request: dict[str, Any], answer: type[Answer]) -> Answer:
        for attempt in itertools.count():
            try:
                with _own_errors(self.base_url):
                    response = await self._http.request(**request)
                return self._parse(response, answer)
            except NextWordsError as error:
                await asyncio.sleep(self._pause(error, attempt))
        raise AssertionError("the loop has no end")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncNextWords:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
