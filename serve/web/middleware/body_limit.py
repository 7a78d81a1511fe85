"""The limit for the size of a request's body, checked before the body is parsed."""
from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextword.serve.web.errors import Fault

BODY_LIMIT = 2_000_000  # bytes; the longest text, all in JSON escapes, takes 1,200,000
PROFILE_LIMIT = 8_000_000  # bytes of a profile that is loaded
PROFILES = "/v1/profiles/"


class BodyLimit:
    """Refuses larger bodies, with 413: at once if their length is declared, else while they are received."""

    def __init__(self, app: ASGIApp, limit: int = BODY_LIMIT):
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        loads = scope["method"] == "PUT" and scope["path"].startswith(PROFILES)
        limit = PROFILE_LIMIT if loads else self.limit
        declared = Headers(scope=scope).get("content-length", "0")
        received = int(declared) if declared.isdecimal() and int(declared) > limit else 0

        async def receive_within_limit() -> Message:
            nonlocal received
            if received <= limit:
                message = await receive()
                received += len(message.get("body", b""))
            if received > limit:
                raise Fault(413, f"the body may have {limit:,} bytes")
            return message

        await self.app(scope, receive_within_limit, send)
