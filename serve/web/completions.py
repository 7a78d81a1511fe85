"""Routes that are like OpenAI's legacy completions, so that its clients can be pointed at this service."""
from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from nextword.serve.web import errors
from nextword.serve.web.completion_text import Ask, GrowingText, PromptTooLong
from nextword.serve.engine.client_presence import some_was_sent
from nextword.serve.engine.supervisor import DeadlinePassed, Engine, Unavailable, WorkerFault
from nextword.serve.openai_schemas import (
    PROMPT_LIMIT,
    STOP_LENGTH,
    STOP_LIMIT,
    UNSUPPORTED,
    Choice,
    Completion,
    CompletionRequest,
    OpenAIErrorDetail,
    OpenAIErrorResponse,
    ServedModel,
    ServedModels,
    Usage,
)
from nextword.serve.schemas import TEXT_LIMIT

TOGETHER = 8  # texts of one request that grow at the same time, so that it cannot fill the queue
ENGINE_FAULTS = (Unavailable, DeadlinePassed, WorkerFault)
_TYPES = {500: "server_error", 503: "service_unavailable", 504: "timeout"}
_DESCRIPTIONS = {
    400: "A field is wrong, or the body is not JSON",
    401: "An API key is wanted, or another one",
    404: "There is no such model",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    429: "More requests than the rate allows; try again after `Retry-After` seconds",
    500: "The service failed; this is a fault of its own",
    503: "No worker is ready, or too many requests wait; try again after `Retry-After` seconds",
    504: "No answer within the deadline",
}
_EXPECTED = {
    "body": 'a JSON object, such as {"prompt": "I went to the"}',
    "prompt": f"a string or a list of 1 to {PROMPT_LIMIT} strings, each of up to {TEXT_LIMIT:,} characters; token numbers "
    "are not supported",
    "stop": f"a string of 1 to {STOP_LENGTH} characters or a list of up to {STOP_LIMIT} such strings",
}


class _AnyName(Convertor[str]):
    """Takes in a path what `path` does, and line breaks."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyName())


class NoSuchModel(Exception):
    """The request names a model that is not served."""


def build_router(engine: Engine) -> APIRouter:
    """Returns the routes, which ask `engine`."""
    router = APIRouter(tags=["like OpenAI's"], route_class=_OpenAIRoute)
    _add_completions(router, engine)
    _add_models(router, engine)
    return router


def _responses(*statuses: int) -> dict:
    return {status: {"model": OpenAIErrorResponse, "description": _DESCRIPTIONS[status]} for status in statuses}


def _add_completions(router: APIRouter, engine: Engine) -> None:
    streamed = {200: {"content": {"text/event-stream": {}}, "description": "The texts; with "
                      "`stream`, events with one `Completion` each and at last `data: [DONE]`"}}

    @router.post(
        "/v1/completions",
        operation_id="completions",
        summary="A text written on",
        response_model=Completion,
        responses={**streamed, **_responses(400, 401, 404, 413, 415, 429, 500, 503, 504)},
    )
    async def completions(question: CompletionRequest, request: Request) -> Response:
        if question.model not in (None, engine.model):
            raise NoSuchModel(question.model)
        asked = _Asked(engine.ask, question, engine.model)
        if question.stream:
            first = await asked.grow()  # what goes wrong here still has a status of its own
            return StreamingResponse(_events(request, asked, first), media_type="text/event-stream",
                                     headers={"Cache-Control": "no-store"})
        while asked.growing:
            await asked.grow()
            if await request.is_disconnected():
                return Response(status_code=499)  # nobody reads it
        return Response(asked.completion().model_dump_json(), media_type="application/json")


def _add_models(router: APIRouter, engine: Engine) -> None:
    started = int(time.time())

    @router.get("/v1/models", operation_id="models", summary="What is served", responses=_responses(401, 429))
    async def models() -> ServedModels:
        return ServedModels(data=[ServedModel(id=engine.model, created=started)])

    @router.get("/v1/models/{name:any}", operation_id="model", summary="A served model", responses=_responses(401, 404, 429))
    async def one_model(name: str) -> ServedModel:
        if name != engine.model:
            raise NoSuchModel(name)
        return ServedModel(id=name, created=started)


class _Asked:
    """A request that is being answered: its texts, a few of which grow at a time."""

    def __init__(self, ask: Ask, request: CompletionRequest, model: str):
        seed = request.seed if request.seed is not None else random.getrandbits(63)
        prompts = [prompt for prompt in request.prompts for _ in range(request.n)]
        self._texts = [GrowingText(ask, request, prompt, index, seed) for index, prompt in enumerate(prompts)]
        self._n = request.n
        self._whole = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self.with_usage = bool(request.stream_options and request.stream_options.include_usage)

    @property
    def growing(self) -> list[GrowingText]:
        return [text for text in self._texts if not text.finish_reason]

    async def grow(self) -> list[GrowingText]:
        """Lets some of the texts grow, and returns them."""
        some = self.growing[:TOGETHER]
        results = await asyncio.gather(*(text.grow() for text in some), return_exceptions=True)
        for failure in results:
            if failure is not None:
                raise failure
        return some

    def completion(self) -> Completion:
        """All texts, when none is growing."""
        return Completion(**self._whole, choices=[text.take() for text in self._texts], usage=self._usage())

    def event(self, choice: Choice) -> str:
        return _event(Completion(**self._whole, choices=[choice]).model_dump_json(exclude={"usage"}))

    def usage_event(self) -> str:
        return _event(Completion(**self._whole, choices=[], usage=self._usage()).model_dump_json())

    def _usage(self) -> Usage:
        prompt = sum(text.prompt_tokens for text in self._texts[:: self._n])
        written = sum(text.completion_tokens for text in self._texts)
        return Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


async def _events(request: Request, asked: _Asked, grown: list[GrowingText]) -> AsyncIterator[str]:
    """The texts as server-sent events. It is closed when the reader leaves, and so asks for nothing more."""
    while grown:
        for text in grown:
            for choice in text.take_each():
                yield asked.event(choice)
        some_was_sent()
        try:
            grown = asked.growing and await asked.grow()
        except ENGINE_FAULTS as error:  # the status is sent already
            yield _event((await _reshaped(request, error)).body.decode())
            return
    if asked.with_usage:
        yield asked.usage_event()
    yield _event("[DONE]")


def _event(data: str) -> str:
    return f"data: {data}\n\n"


class _OpenAIRoute(APIRoute):
    """A route whose errors have OpenAI's shape: a client of its own knows no other."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in self.methods:
            return await super().handle(scope, receive, send)
        refusal = HTTPException(405, headers={"Allow": ", ".join(sorted(self.methods))})
        await (await _reshaped(Request(scope), refusal))(scope, receive, send)

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def handle_in_shape(request: Request) -> Response:
            try:
                return await handle(request)
            except NoSuchModel as error:
                detail = _error(404, f"there is no model {str(error)!r}; GET /v1/models tells what is served", "model",
                                "model_not_found")
                return _refusal(404, detail)
            except PromptTooLong as error:
                return _refusal(400, _error(400, f"prompt {error}", "prompt", "context_length_exceeded"))
            except (*ENGINE_FAULTS, RequestValidationError, HTTPException) as error:
                return await _reshaped(request, error)

        return handle_in_shape


async def _reshaped(request: Request, error: Exception) -> Response:
    """The service's usual answer to an error, in OpenAI's shape and with OpenAI's status."""
    handlers = request.app.exception_handlers
    kind = next(kind for kind in type(error).__mro__ if kind in handlers)
    usual = await handlers[kind](request, error)
    fault = json.loads(usual.body)["error"]
    headers = {name: value for name, value in usual.headers.items() if name in ("allow", "retry-after")}
    if usual.status_code != 422:
        return _refusal(usual.status_code, _error(usual.status_code, fault["message"], code=fault["type"]), headers)
    field = fault["where"].partition(".")[0]
    message = fault["message"]
    if field in UNSUPPORTED:
        message = f"{field} is not supported by this service; leave it out"
    elif field in _EXPECTED:
        message = f"{field} must be {_EXPECTED[field]}"
    return _refusal(400, _error(400, message, None if field == "body" else field, fault["type"]))


def refusal_at(path: str, status: int, message: str, kind: str, headers: dict) -> Response:
    """A refusal before any route is reached, in the shape that the routes at `path` have."""
    if path.startswith(("/v1/completions", "/v1/models")):
        return _refusal(status, _error(status, message, code=kind), headers)
    return errors.answer(status, message, headers=headers)


def _error(status: int, message: str, param: str | None = None, code: str | None = None) -> OpenAIErrorResponse:
    kind = _TYPES.get(status, "invalid_request_error")
    return OpenAIErrorResponse(error=OpenAIErrorDetail(message=message, type=kind, param=param, code=code))


def _refusal(status: int, error: OpenAIErrorResponse, headers: dict | None = None) -> Response:
    # ASCII, because names of unknown fields may hold lone surrogates, which UTF-8 cannot.
    return Response(json.dumps(error.model_dump()), status, headers, media_type="application/json")
