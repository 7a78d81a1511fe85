"""The age of the current request and the presence of its client: a client that has left needs no answer."""
from __future__ import annotations

import time
from contextvars import ContextVar

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _Request:
    def __init__(self, receive: Receive):
        self._receive = receive
        self.complete_at: float | None = None  # by time.monotonic()

    async def receive(self) -> Message:
        message = await self._receive()
        if self.complete_at is None and not message.get("more_body"):
            self.complete_at = time.monotonic()
        return message


_request: ContextVar[_Request | None] = ContextVar("request", default=None)


class ClientPresence:
    """Middleware that the functions of this module need. `client_has_left` works after the request's body was read."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _Request(receive)
        _request.set(request)
        await self.app(scope, request.receive, send)


async def client_has_left() -> bool:
    """Return True if the client of the current request has closed its connection. Do not wait."""
    request = _request.get()
    message = None
    if request:
        with anyio.CancelScope() as scope:
            scope.cancel()  # receive a message that is there, but do not wait for one
            message = await request.receive()
    return message is not None and message["type"] == "http.disconnect"


def seconds_waited() -> float:
    """Return the seconds since the current request was complete, or since `restart_clock`."""
    request = _request.get()
    return time.monotonic() - request.complete_at if request and request.complete_at else 0.0


def restart_clock() -> None:
    """Count the seconds from now on, because the client has received a part of the answer."""
    if request := _request.get():
        request.complete_at = time.monotonic()
