"""Host names: a page whose name was made to mean this machine (DNS rebinding) must not ask a service without keys."""
from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nextword.serve.settings import host_name
from nextword.serve.web.errors import Fault
from nextword.serve.web.middleware.api_keys import OPEN_PATHS


class Hosts:
    """Refuses, with 421, requests for other hosts than these. A check of the service's life may name any."""

    def __init__(self, app: ASGIApp, names: Collection[str]):
        self.app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return await self.app(scope, receive, send)
        host = Headers(scope=scope).get("host")
        if host is None or host_name(host) in self._names:  # every browser names a host
            return await self.app(scope, receive, send)
        message = "the service is not asked under this host name; --allowed-hosts names those that may be used"
        await Fault(421, message, "host").response(scope["path"])(scope, receive, send)
