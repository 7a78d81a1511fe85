"""How much one client may ask."""
from __future__ import annotations

import math
import time

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from nextword.serve.web.completions import refusal_at


class RateLimit:
    """Refuses with 429 what a key, or without keys an address, asks of `/v1/` beyond a rate."""

    def __init__(self, app: ASGIApp, rate: RateLimitItem):
        self.app, self._rate = app, rate
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return await self.app(scope, receive, send)
        who = scope.get("key") or (scope["client"] or ("unknown",))[0]
        if self._limiter.hit(self._rate, who):
            return await self.app(scope, receive, send)
        pause = max(1, math.ceil(self._limiter.get_window_stats(self._rate, who).reset_time - time.time()))
        refusal = refusal_at(scope["path"], 429, f"more requests than {self._rate}; try again in {pause} s",
                             "rate_limit_exceeded", {"Retry-After": str(pause)})
        await refusal(scope, receive, send)
