"""Answers the requests that the HTTP server refuses before they are complete."""
from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from nextword.serve.engine.http_server import REFUSAL
from nextword.serve.web.errors import Fault


class Refusals:
    """Answers what has a REFUSAL in its scope; such a request goes no further."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if REFUSAL not in scope:
            return await self.app(scope, receive, send)
        status, message = scope[REFUSAL]
        headers = {"Retry-After": "1"} if status == 503 else None
        kind = "invalid_http" if status == 400 else None
        await Fault(status, message, headers=headers, kind=kind).response(scope["path"])(scope, receive, send)
