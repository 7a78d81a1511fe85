"""The rate limit for the requests of each client."""
from __future__ import annotations

import math
import time

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from nextword.serve.web.errors import Fault


class RateLimit:
    """Refuses requests to `/v1/` beyond the rate, with 429. A client is a key or, if no keys are set, an address."""

    def __init__(self, app: ASGIApp, rate: RateLimitItem):
        self.app, self._rate = app, rate
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return await self.app(scope, receive, send)
        client = scope.get("key") or (scope["client"] or ("unknown",))[0]
        if self._limiter.hit(self._rate, client):
            return await self.app(scope, receive, send)
        pause = max(1, math.ceil(self._limiter.get_window_stats(self._rate, client).reset_time - time.time()))
        message = f"more requests than {self._rate}; try again in {pause} s"
        fault = Fault(429, message, headers={"Retry-After": str(pause)})
        await fault.response(scope["path"])(scope, receive, send)
