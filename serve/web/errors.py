"""Errors for clients. Each is a `Fault`; the path decides its shape: the service's or OpenAI's."""
from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from nextword.serve.engine.faults import ClientGone, DeadlinePassed, NoAnswer, Unavailable
from nextword.serve.openai_schemas import (
    PROMPT_LIMIT,
    STOP_LENGTH,
    STOP_LIMIT,
    UNSUPPORTED,
    OpenAIErrorDetail,
    OpenAIErrorResponse,
)
from nextword.serve.profiles.faults import StoreFault
from nextword.serve.schemas import TAGS, TEXT_LIMIT, ErrorDetail, ErrorResponse

OPENAI_LACKING = ("/v1/chat", "/v1/responses", "/v1/embeddings")  # what clients of OpenAI's ask for in vain
OPENAI_PATHS = ("/v1/completions", "/v1/models", *OPENAI_LACKING)
HANDLED = (RequestValidationError, HTTPException, NoAnswer, ClientGone)  # all others are faults of the service
LONGEST_NAMED = 100  # characters of a path that is compared with the routes


class _Status(NamedTuple):
    """The types of a status: in the service's shape and in OpenAI's. description: for the OpenAPI document."""

    type: str
    openai_type: str = "invalid_request_error"
    description: str = ""


STATUSES = {
    400: _Status("invalid_json", description="The body is not JSON"),
    401: _Status("invalid_api_key", description="The API key is missing or wrong"),
    404: _Status("not_found", description="There is no such profile, text, word or address"),
    405: _Status("method_not_allowed"),
    408: _Status("too_slow"),
    409: _Status("conflict", description="The profile has too many characters, or two texts have one id"),
    413: _Status("too_large", description="The body is too large"),
    415: _Status("unsupported_media_type", description="The body is not declared as JSON, or compressed"),
    421: _Status("unknown_host"),
    422: _Status("invalid_request", description="A field is wrong"),
    429: _Status("rate_limit_exceeded",
                 description="More requests than the rate allows; try again after `Retry-After` seconds"),
    431: _Status("too_large"),
    500: _Status("internal_error", "server_error", "The service failed; this is a fault of its own"),
    501: _Status("no_profiles", "server_error", "This service keeps no profiles"),
    503: _Status("unavailable", "service_unavailable",
                 "No worker is ready, or too many requests wait; try again after `Retry-After` seconds"),
    504: _Status("deadline_passed", "timeout", "No answer within the deadline"),
    507: _Status("store_full", "server_error", "There are too many profiles, or the disk is full"),
}
_OPENAI_DESCRIPTIONS = {400: "A field is wrong, or the body is not JSON", 404: "There is no such model"}
_OPENAI_FIELDS = {
    "body": 'a JSON object, such as {"prompt": "I went to the"}',
    "prompt": f"a string or a list of 1 to {PROMPT_LIMIT} strings, each of up to {TEXT_LIMIT:,} characters",
    "stop": f"a string of 1 to {STOP_LENGTH} characters or a list of up to {STOP_LIMIT} such strings",
}


class Fault(HTTPException):
    """An error that a client sees.

    Args:
        status: the HTTP status; `STATUSES` has its error types.
        message: one sentence for people.
        where: the place in the request.
        headers: headers of the response.
        code: OpenAI's `code`, if it is not the type.
        param: OpenAI's `param`, the wrong field.
        sent: the value of the wrong field in a few words.
        kind: the error's type, if it is not the status's.
    """

    def __init__(self, status: int, message: str, where: str | None = None, headers: Mapping[str, str] | None = None,
                 *, code: str | None = None, param: str | None = None, sent: str = "", kind: str | None = None):
        super().__init__(status, message, headers)
        self.message, self.where, self.param, self._sent = message, where, param, sent
        self.type = kind or (STATUSES[status].type if status in STATUSES else "error")
        self.code = code or self.type

    def openai_error(self) -> OpenAIErrorResponse:
        """Return the error in OpenAI's shape, which has no status 422."""
        message, param = self.message, self.param
        if self.status_code == 422:
            where = self.where or ""
            field = where.partition(".")[0]
            param = None if field == "body" else field
            unsupported = next((name for name in (where, field) if name in UNSUPPORTED), None)
            if unsupported:
                message = f"{unsupported} is not supported by this service; leave it out"
            elif field in _OPENAI_FIELDS:
                message = f"{field} must be {_OPENAI_FIELDS[field]}" + (f"; it is {self._sent}" if self._sent else "")
        kind = STATUSES.get(self.status_code, STATUSES[400]).openai_type
        return OpenAIErrorResponse(error=OpenAIErrorDetail(message=message, type=kind, param=param, code=self.code))

    def response(self, path: str) -> Response:
        """Render the error in the shape of the routes at `path`."""
        status, content = self.status_code, {}
        if _is_below(path, OPENAI_PATHS):
            status = 400 if status == 422 else status
            content = self.openai_error().model_dump()
        else:
            detail = ErrorDetail(type=self.type, message=self.message, where=self.where)
            content = ErrorResponse(error=detail).model_dump(exclude_none=True)
        # ASCII, because names of unknown fields may have lone surrogates, which UTF-8 cannot encode.
        return Response(json.dumps(content), status, self.headers, media_type="application/json")


def responses(*statuses: int, openai: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe these errors for the OpenAPI document."""
    model: type[BaseModel] = OpenAIErrorResponse if openai else ErrorResponse
    descriptions = {status: STATUSES[status].description for status in statuses}
    if openai:
        descriptions.update((status, text) for status, text in _OPENAI_DESCRIPTIONS.items() if status in descriptions)
    return {status: {"model": model, "description": text} for status, text in descriptions.items()}


def install(app: FastAPI) -> None:
    """Make the application answer every error with a `Fault`."""
    for kind in (*HANDLED, Exception):
        app.add_exception_handler(kind, respond)


async def respond(request: Request, error: Exception) -> Response:
    """Return the answer to a request that failed."""
    if isinstance(error, ClientGone):
        return Response(status_code=499)  # for the metrics: the client has left
    response = as_fault(error, request).response(request.scope["path"])
    if error.__cause__:  # it refers to a function of FastAPI, which refers to the error and the body: free them now
        error.__cause__.__traceback__ = None
    return response


def as_fault(error: Exception, request: Request) -> Fault:
    """Return the fault that a client sees for an error."""
    if isinstance(error, Fault):
        return error
    encoding = request.headers.get("content-encoding", "identity")
    unread = isinstance(error, RequestValidationError) or getattr(error, "status_code", None) == 400
    if unread and encoding != "identity":
        message = f"the body is compressed (content-encoding: {encoding}); send it as it is"
        return Fault(415, message, "content-encoding")
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors()[0], error.body, request)
    if isinstance(error, HTTPException):
        return _http_fault(error, request)
    if isinstance(error, StoreFault):
        retry = {"Retry-After": "1"} if error.status == 503 else None
        return Fault(error.status, str(error), error.where, retry, param=error.where, kind=error.kind)
    if isinstance(error, Unavailable):
        return Fault(503, f"{error}; try again in a second", headers={"Retry-After": "1"})
    if isinstance(error, DeadlinePassed):
        return Fault(504, "no answer came in time; the service is busy, try again", headers={"Retry-After": "1"})
    return Fault(500, "the service failed at this request; its log says how")


def _invalid(fault: dict[str, Any], body: Any, request: Request) -> Fault:
    if fault["type"] == "json_invalid":
        place = f"character {fault['loc'][-1]}"
        return Fault(400, f"the body is not JSON: {fault['ctx']['error']} at {place}", place)
    if fault["loc"] == ("body",):
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if fault["type"] != "missing" and not media_type.endswith(("/json", "+json")):
            return Fault(415, "send JSON with the header content-type: application/json", "content-type")
        return Fault(422, 'the body must be a JSON object, such as {"text": "I went to the"}', "body")
    where = ".".join(str(part) for part in fault["loc"][1:] if part not in TAGS)
    message = {
        "extra_forbidden": "there is no such field; /docs lists the fields",
        "missing": "this field is required",
    }.get(fault["type"], fault["msg"])
    if message == fault["msg"] and isinstance(fault["input"], bool | int | float | type(None)):
        message = f"{message}; it is {_describe(fault['input'])}"
    elif isinstance(fault["input"], str) and message.startswith("Input should be a valid"):
        message = f"{message}; it is a string"
    field = fault["loc"][1]
    sent = _describe(body[field]) if isinstance(body, dict) and field in body else ""
    return Fault(422, f"{where}: {message}", where, sent=sent)


def _describe(value: object) -> str:
    """Describe a JSON value in a few words, without quoting text."""
    if isinstance(value, str):
        return f"a string of {len(value):,} characters"
    if isinstance(value, dict):
        return "an object"
    if not isinstance(value, list):
        return json.dumps(value)
    if not value:
        return "an empty list"
    if all(isinstance(entry, int | list) for entry in value):
        return "a list of token numbers, which are not supported"
    if all(isinstance(entry, str) for entry in value):
        return f"a list of {len(value):,} strings, the longest of {max(map(len, value)):,} characters"
    return f"a list of {len(value):,} values that are not all strings"


def _http_fault(error: HTTPException, request: Request) -> Fault:
    message = error.detail
    if error.status_code == 400 and error.__cause__:
        message = f"the body is not JSON: {_parse_fault(error.__cause__)}"
    elif error.status_code == 404:
        message = _nothing_at(request.scope["path"], request.app.state.route_names.paths)
    elif error.status_code == 405:
        # Starlette's own header has the methods of one route, and a path may have several.
        allowed = ", ".join(request.app.state.route_names.methods(request.scope["path"]))
        message = f"{request.method} is not possible here; {allowed or 'see /docs'} is"
        return Fault(405, message, headers={"Allow": allowed} if allowed else error.headers)
    return Fault(error.status_code, message, headers=error.headers)


def _nothing_at(path: str, routes: Iterable[str]) -> str:
    if _is_below(path, OPENAI_LACKING):
        return "this service has no chat, responses or embeddings; POST /v1/completions continues a text"
    close = difflib.get_close_matches(path, routes, 1) if len(path) < LONGEST_NAMED else []
    hint = f"did you mean {close[0]}? " if close else ""
    return f"there is nothing at this address; {hint}/docs describes the service"


def _is_below(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def _parse_fault(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not valid {error.encoding}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it holds a number with too many digits" if isinstance(error, ValueError) else "it cannot be read"
