"""Answers the routes that take nothing but a JSON body, before FastAPI sees the request.

FastAPI looks for the route and for dependencies, opens stacks for what those leave behind, parses the body into
objects, and then validates the objects. That takes longer than everything that this service does with such a request.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextword.serve.web.errors import HANDLED, respond


class BodyRoutes:
    """Middleware that validates a body once, straight from its bytes, and calls the route's function with it.

    The function takes nothing but a body, and returns a Response. All requests but those with a valid body go FastAPI's
    way, which finds the error.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]):
        self.app = app
        self._routes = {route.path: (route, model.__pydantic_validator__.validate_json) for route in routes
                        if isinstance(route, APIRoute) and route.methods == {"POST"} and not route.dependencies
                        and (model := _only_parameter(route.endpoint))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._routes:
            return await self.app(scope, receive, send)
        if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return await self.app(scope, receive, send)
        scope["route"], validate = self._routes[scope["path"]]
        try:
            body = await _body(receive)
            if body is None:
                return await self.app(scope, receive, send)  # receives the same again
            try:
                value = validate(body)
            except ValidationError:
                return await self.app(scope, _body_again(body, receive), send)
            response = await scope["route"].endpoint(value)
        except HANDLED as error:
            response = await respond(Request(scope), error)
        await response(scope, receive, send)


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, or None if the client has left."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


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
