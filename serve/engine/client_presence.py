"""For how long the current request has waited, and whether its client has left: then nothing needs to be computed for it."""
from __future__ import annotations

import time
from contextvars import ContextVar

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _Request:
    """What is to be known of a request while it is answered."""

    def __init__(self, receive: Receive):
        self._receive = receive
        self.whole: float | None = None  # when it was

    async def receive(self) -> Message:
        message = await self._receive()
        if self.whole is None and not message.get("more_body"):
            self.whole = time.monotonic()
        return message


_request: ContextVar[_Request | None] = ContextVar("request", default=None)


class Departures:
    """Lets whatever answers a request ask `waited`, and `client_has_left` once the request's body is read."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _Request(receive)
        _request.set(request)
        await self.app(scope, request.receive, send)


async def client_has_left() -> bool:
    """Looks, without waiting, whether the client of the current request has closed its connection."""
    request = _request.get()
    message = None
    if request:
        with anyio.CancelScope() as scope:
            scope.cancel()  # what is not there now is not waited for
            message = await request.receive()
    return message is not None and message["type"] == "http.disconnect"


def waited() -> float:
    """Seconds since the current request was there whole, or since `some_was_sent`."""
    request = _request.get()
    return time.monotonic() - request.whole if request and request.whole else 0.0


def some_was_sent() -> None:
    """Begins to count anew, as the client has a part of the answer."""
    if request := _request.get():
        request.whole = time.monotonic()
