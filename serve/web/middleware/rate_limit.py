"""The rate limit for the requests of each client."""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from nextword.serve.web.errors import Fault

SITE = 64  # bits of an IPv6 address that name a site: whoever has one address there can have all others

_count: ContextVar[Callable[[int], None] | None] = ContextVar("count", default=None)


class RateLimit:
    """Refuses, with 429, the requests to `/v1/` that a key (or, without keys, an address) makes beyond the rate.

    A request counts as one, and as more where its route says so by `count_as`.
    """

    def __init__(self, app: ASGIApp, rate: RateLimitItem):
        self.app, self._rate = app, rate
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return await self.app(scope, receive, send)
        client = scope.get("key") or _site((scope["client"] or ("unknown",))[0])
        try:
            self._hit(client, 1)
        except Fault as fault:
            return await fault.response(scope["path"])(scope, receive, send)
        _count.set(lambda requests: self._hit(client, requests - 1))
        await self.app(scope, receive, send)

    def _hit(self, client: str, requests: int) -> None:
        # No request counts as more than the rate, which would refuse it for ever.
        requests = min(requests, self._rate.amount - 1) if requests > 1 else requests
        if requests and not self._limiter.hit(self._rate, client, cost=requests):
            pause = max(1, math.ceil(self._limiter.get_window_stats(self._rate, client).reset_time - time.time()))
            raise Fault(429, f"more requests than {self._rate}; try again in {pause} s",
                        headers={"Retry-After": str(pause)})


def count_as(requests: int) -> None:
    """Count the current request as so many. Raises Fault where that is beyond the rate."""
    if count := _count.get():
        count(requests)


def _site(address: str) -> str:
    """Return an address, or of an IPv6 address its network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed.packed, SITE), strict=False))
    return address
