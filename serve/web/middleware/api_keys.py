"""API keys: if any are set, every route except `/health` needs one."""
from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from contextvars import ContextVar
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nextword.serve.web.errors import Fault

OPEN_PATHS = {"/health"}  # so that programs without a key can check the service
_owner: ContextVar[str] = ContextVar("owner", default="")
_HINT = "send one as `Authorization: Bearer KEY` or as `X-API-Key: KEY`"


class APIKeys:
    """Refuses requests without a valid key, with 401.

    A key comes as Bearer, as X-API-Key, or as the password of Basic, which a browser asks its user for. `key` in the
    scope becomes the first characters of the key's digest: they identify the key and do not reveal it.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]):
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        key = _key_in(headers)
        digest = sha256(key.encode("latin-1")).digest()
        # All digests are compared, each in constant time, so that the time reveals nothing about any key.
        if any([hmac.compare_digest(digest, accepted) for accepted in self._digests]):  # noqa: C419
            scope["key"] = digest.hex()[:8]
            _owner.set(sha256(b"owner of profiles" + digest).hexdigest()[:32])
            return await self.app(scope, receive, send)
        challenge = 'Basic realm="Nextword: the API key is the password", charset="UTF-8"'
        if "text/html" not in headers.get("accept", ""):
            challenge = "Bearer"
        message = f"this API key is not known; {_HINT}" if key else f"an API key is needed; {_HINT}"
        fault = Fault(401, message, headers={"WWW-Authenticate": challenge})
        await fault.response(scope["path"])(scope, receive, send)


def owner() -> str:
    """Return who makes the current request: a digest of its API key, which does not reveal it; "" without keys.

    It is the digest of a digest, so what identifies a key in the log is not the beginning of it.
    """
    return _owner.get()


def _key_in(headers: Headers) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("latin-1").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return headers.get("x-api-key", "")
