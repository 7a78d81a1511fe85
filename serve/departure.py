"""Whether the client of a request has left: then nothing needs to be computed for it."""
from __future__ import annotations

from contextvars import ContextVar

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

_receive: ContextVar[Receive | None] = ContextVar("receive", default=None)


class Departures:
    """Lets whatever answers a request ask `client_has_left`, once the request's body is read."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _receive.set(receive)
        await self.app(scope, receive, send)


async def client_has_left() -> bool:
    """Looks, without waiting, whether the client of the current request has closed its connection."""
    receive = _receive.get()
    message = None
    if receive:
        with anyio.CancelScope() as scope:
            scope.cancel()  # what is not there now is not waited for
            message = await receive()
    return message is not None and message["type"] == "http.disconnect"
