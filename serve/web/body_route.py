"""Routes that validate a JSON body once, straight from its bytes.

FastAPI parses the body into objects, and then validates those. It looks for dependencies, and opens three stacks for
what they leave behind. That takes half of the time that the HTTP process spends on a request.
"""
from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyRoute(APIRoute):
    """A route of FastAPI that is quick if its function takes nothing but a body, and returns a Response.

    Such a function gets every valid body from here. All other requests go FastAPI's way, which finds the error.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any):
        super().__init__(path, endpoint, **options)
        model = _only_parameter(endpoint)
        if model and not self.dependencies:
            self.app = _quick(endpoint, model, self.app)


def _quick(function: Callable[[Any], Awaitable[Response]], model: type[BaseModel], other: ASGIApp) -> ASGIApp:
    """Return an application that calls `function` with a valid body, and `other` with any other request."""
    validate = model.__pydantic_validator__.validate_json

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        media_type = Headers(scope=scope).get("content-type", "").partition(";")[0]
        if media_type.strip().lower() != "application/json":
            return await other(scope, receive, send)
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            return await other(scope, receive, send)  # receives the same again
        try:
            value = validate(body)
        except ValidationError:
            return await other(scope, _body_again(body, receive), send)
        response = await function(value)
        await response(scope, receive, send)

    return app


def _body_again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` whose first message is the whole body."""
    left = [body]

    async def receive_again() -> Message:
        return {"type": "http.request", "body": left.pop()} if left else await receive()

    return receive_again


def _only_parameter(function: Callable[..., Any]) -> type[BaseModel] | None:
    """Return the type of a function's only parameter if it is a model, else None."""
    names = list(inspect.signature(function).parameters)
    kind = get_type_hints(function).get(names[0]) if len(names) == 1 else None
    return kind if inspect.isclass(kind) and issubclass(kind, BaseModel) else None
