"""Security headers: they limit what a page may load and which sites may embed it."""
from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PAGE = f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; {_NOTHING_ELSE}"
# Swagger UI has styles in its markup, and images in its style sheet.
_DOCS = _PAGE.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
_DOCS = _DOCS.replace("img-src 'self'", "img-src 'self' data:")
_COMMON = [
    (b"cache-control", b"no-cache"),  # otherwise a browser may show the page of an older version
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_OTHERS = [(b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"), *_COMMON]
_PAGES = {
    path: [(b"content-security-policy", policy.encode()), *_COMMON] for path, policy in (("/", _PAGE), ("/docs", _DOCS))
}


class SecurityHeaders:
    """Adds the headers to every answer."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        added = _PAGES.get(scope["path"], _OTHERS)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.app(scope, receive, send_with_headers)
