"""The access log and the metrics of requests: each request has an id and a line, without any text of the user."""
from __future__ import annotations

import re
import time
import traceback
from secrets import token_hex

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextword.serve.logs import logger, note
from nextword.serve.metrics import request_answered
from nextword.serve.web.route_names import route_name

HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestLog:
    """Logs and counts each request, and adds an id to each answer: the request's `X-Request-ID`, or a new one.

    The line has the route instead of the path, because a path may have text of the user. An unexpected error is logged
    without its message, because that may quote the request.
    """

    def __init__(self, app: ASGIApp, log: bool = True):
        self.app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 500
        sent = next((value for name, value in scope["headers"] if name == HEADER), b"")
        identity = sent if _ID.fullmatch(sent) else token_hex(16).encode()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, identity)]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            frames = "".join(traceback.format_tb(error.__traceback__))
            fields = {"id": identity.decode()}
            logger.error("%s at a request:\n%s", type(error).__name__, frames, extra={"fields": fields})
        finally:
            route, seconds = route_name(scope), time.perf_counter() - start
            request_answered(route, status, seconds)
        if self._log:
            note("request", method=scope["method"], route=route, status=status, ms=round(1000 * seconds, 1),
                 id=identity.decode(), **({"key": scope["key"]} if "key" in scope else {}))
