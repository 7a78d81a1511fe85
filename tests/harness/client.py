"""A client of a few lines over http.client: each answer with its time, or with the reason why there was none."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

Request = tuple[str, str, Any]  # method, path, and the body: bytes, a value to send as JSON, or None


class Address(Protocol):
    """Where a server listens."""

    host: str
    port: int


class Answer(NamedTuple):
    """The end of a request. `status` is 0 where there was no answer; `fault` then names the error."""

    status: int
    seconds: float
    at: float  # the start of the request, by time.monotonic()
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    fault: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def outcome(self) -> int | str:
        """The status, or the name of the error."""
        return self.status or self.fault


def next_words(text: str = "I went to the", **fields: Any) -> Request:
    return "POST", "/v1/next-words", {"text": text, **fields}


class Client:
    """One connection to a server, made anew where it was closed."""

    def __init__(self, server: Address, timeout: float = 30) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send a request and read the whole answer. No error of the connection is raised."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        start = time.monotonic()
        try:
            self._connection.request(method, path, content, {"content-type": "application/json", **(headers or {})})
            response = self._connection.getresponse()
            received = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(0, time.monotonic() - start, start, fault=type(error).__name__)
        given = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, time.monotonic() - start, start, given, received)


def connect(server: Address, timeout: float = 30) -> socket.socket:
    """Return a connected socket, for bytes that no HTTP client would send."""
    return socket.create_connection((server.host, server.port), timeout=timeout)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
