"""The profile of a person as the clients of `serve.client` see it: `NextWords.profile` and `AsyncNextWords.profile`."""
from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast
from urllib.parse import quote

from pydantic import BaseModel

from nextword.serve.profile_schemas import Learned, OwnWords, ProfileExport, ProfileSummary, Removed, Taught

Answer = TypeVar("Answer", bound=BaseModel)
Options = ParamSpec("Options")


class Client(Protocol):
    """The client of a profile. An asynchronous client sends when the result of `_send` is awaited."""

    def _request(self, path: str, *, method: str = "POST", **fields: Any) -> dict[str, Any]: ...

    def _send(self, request: dict[str, Any], answer: type[Answer]) -> Any: ...


class Profile:
    """What the service keeps of one person, under this name. Only clients with the same API key see it.

    Attributes:
        name: 1 to 64 letters of ASCII, digits, `.`, `_` and `-`.

    >>> from nextword.serve.client import NextWords
    >>> with NextWords("http://127.0.0.1:8000") as client:
    ...     me = client.profile("me")
    ...     learned = me.learn("We met Zorbulon. Zorbulon waved. Zorbulon left.")
    ...     before = [word.word for word in client.next_words("We met", profile="me", partial="Z", k=1).words]
    ...     me.forget("Zorbulon").removed
    ...     after = [word.word for word in client.next_words("We met", profile="me", partial="Zorbulon").words]
    ...     me.delete().removed
    3
    1
    >>> before, after
    (['Zorbulon'], [])
    """

    def __init__(self, client: Client, name: str):
        self._client, self.name = client, name

    def _ask(self, answer: type[Answer], method: str, path: str = "", **fields: Any) -> Answer:
        request = self._client._request(f"/v1/profiles/{quote(self.name, safe='')}{path}", method=method, **fields)
        return cast(Answer, self._client._send(request, answer))

    def learn(self, text: str, id: str | None = None) -> Learned:
        """Learn a text; every question with this profile knows it from now on. The profile is made if there is none.

        id: a new id for the text; by default a random one. A text that is sent twice with one id is learned once, so
        it can be sent again after an error.
        """
        return self._ask(Learned, "POST", "/text", text=text, id=id or uuid.uuid4().hex)

    def undo(self, text: str | Learned) -> Removed:
        """Take exactly one text back, given by its id or by the result of `learn`."""
        id = text if isinstance(text, str) else text.id
        return self._ask(Removed, "DELETE", f"/text/{quote(id, safe='')}")

    def teach(self, word: str) -> Taught:
        """Suggest a word from now on, even if it was forgotten or the service blocks it."""
        return self._ask(Taught, "PUT", f"/words/{quote(word, safe='')}")

    def forget(self, word: str) -> Removed:
        """Suggest a word no more until it is taught, and cut it out of all texts."""
        return self._ask(Removed, "DELETE", f"/words/{quote(word, safe='')}")

    def words(self) -> OwnWords:
        """Return the words that the vocabulary lacks or that were taught, the most frequent first."""
        return self._ask(OwnWords, "GET", "/words")

    def summary(self) -> ProfileSummary:
        """Return the size and the dates of the profile."""
        return self._ask(ProfileSummary, "GET")

    def export(self) -> ProfileExport:
        """Return everything that is kept, for `load`."""
        return self._ask(ProfileExport, "GET", "/export")

    def load(self, export: ProfileExport) -> ProfileSummary:
        """Put an export, of this or another service, in place of what there is."""
        return self._ask(ProfileSummary, "PUT", **export.model_dump())

    def delete(self) -> Removed:
        """Leave nothing of the profile."""
        return self._ask(Removed, "DELETE")


def awaited(
    method: Callable[Concatenate[Any, Options], Answer],
) -> Callable[Concatenate[Any, Options], Coroutine[Any, Any, Answer]]:
    """Return a method as one of an asynchronous class, whose client has a `_send` that returns a coroutine."""

    @functools.wraps(method)
    async def send(self: Any, *args: Options.args, **options: Options.kwargs) -> Answer:
        return await cast(Any, method)(self, *args, **options)

    send.__doc__ = f"See `{method.__qualname__}`."
    return send


class AsyncProfile:
    """`Profile` for asyncio, with the same methods; await them."""

    def __init__(self, client: Client, name: str):
        self._client, self.name = client, name

    _ask = Profile._ask
    learn = awaited(Profile.learn)
    undo = awaited(Profile.undo)
    teach = awaited(Profile.teach)
    forget = awaited(Profile.forget)
    words = awaited(Profile.words)
    summary = awaited(Profile.summary)
    export = awaited(Profile.export)
    load = awaited(Profile.load)
    delete = awaited(Profile.delete)
