"""Every error as one JSON shape, `ErrorResponse`, with the status that fits."""
from __future__ import annotations

import json

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from nextword.serve.engine.supervisor import ClientGone, DeadlinePassed, Unavailable, WorkerFault
from nextword.serve.schemas import ONE_TEXT, SEVERAL_TEXTS, ErrorDetail, ErrorResponse

STATUS_TYPES = {
    400: "invalid_json",
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "unavailable",
    504: "deadline_passed",
}
_DESCRIPTIONS = {
    400: "The body is not JSON",
    401: "An API key is wanted, or another one",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "A field is wrong",
    429: "More requests than the rate allows; try again after `Retry-After` seconds",
    500: "The service failed; this is a fault of its own",
    503: "No worker is ready, or too many requests wait; try again after `Retry-After` seconds",
    504: "No answer within the deadline",
}


def responses(*statuses: int) -> dict:
    """Returns how the OpenAPI document describes these errors."""
    return {status: {"model": ErrorResponse, "description": _DESCRIPTIONS[status]} for status in statuses}


def answer(status: int, message: str, where: str | None = None, headers: dict | None = None) -> Response:
    detail = ErrorDetail(type=STATUS_TYPES.get(status, "error"), message=message, where=where)
    body = ErrorResponse(error=detail).model_dump(exclude_none=True)
    # ASCII, because names of unknown fields may hold lone surrogates, which UTF-8 cannot.
    return Response(json.dumps(body), status, headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Makes the application answer its errors in this shape."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(DeadlinePassed, _deadline_passed)
    app.add_exception_handler(WorkerFault, _fault)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(Exception, _fault)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        place = f"character {fault['loc'][-1]}"
        return answer(400, f"the body is not JSON: {fault['ctx']['error']} at {place}", place)
    if fault["loc"] == ("body",):
        return _no_object(request, fault)
    where = ".".join(str(part) for part in fault["loc"][1:] if part not in (ONE_TEXT, SEVERAL_TEXTS))
    if fault["type"] == "extra_forbidden":
        return answer(422, f"{where}: there is no such field; /docs lists the fields", where)
    if fault["type"] == "missing":
        return answer(422, f"{where}: this field is required", where)
    return answer(422, f"{where}: {fault['msg']}", where)


def _no_object(request: Request, fault: dict) -> Response:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if fault["type"] != "missing" and not media_type.endswith(("/json", "+json")):
        return answer(415, "send JSON with the header content-type: application/json", "content-type")
    return answer(422, 'the body must be a JSON object, such as {"text": "I went to the"}', "body")


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = error.detail
    if error.status_code == 400 and error.__cause__:
        message = f"the body is not JSON: {_parse_fault(error.__cause__)}"
    elif error.status_code == 404:
        message = "there is nothing at this address; /docs describes the service"
    elif error.status_code == 405:
        message = f"{request.method} is not possible here; {dict(error.headers or {}).get('Allow', 'see /docs')} is"
    return answer(error.status_code, message, headers=error.headers)


def _parse_fault(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not valid {error.encoding}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it holds a number with too many digits" if isinstance(error, ValueError) else "it cannot be read"


async def _unavailable(request: Request, error: Unavailable) -> Response:
    return answer(503, f"{error}; try again in a second", headers={"Retry-After": "1"})


async def _deadline_passed(request: Request, error: DeadlinePassed) -> Response:
    return answer(504, "no answer came in time; the service is busy, try again", headers={"Retry-After": "1"})


async def _client_gone(request: Request, error: ClientGone) -> Response:
    return Response(status_code=499)  # for the metrics: nobody reads it


async def _fault(request: Request, error: Exception) -> Response:
    return answer(500, "the service failed at this request; its log says how")
