"""Routes like OpenAI's legacy completions, so that OpenAI's clients work with this service."""
from __future__ import annotations

import asyncio
import heapq
import math
import random
import time
import uuid
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from nextword.serve.engine.client_presence import restart_clock
from nextword.serve.engine.dispatcher import AnyDispatcher
from nextword.serve.engine.faults import DeadlinePassed, NoAnswer
from nextword.serve.openai_schemas import Choice, Completion, CompletionRequest, ServedModel, ServedModels, Usage
from nextword.serve.profiles.store import ProfileKey
from nextword.serve.questions import ScoreQuestion
from nextword.serve.schemas import SCORE_LIMIT
from nextword.serve.web.any_path import rest
from nextword.serve.web.completion_text import Ask, CompletionText
from nextword.serve.web.errors import Fault, as_fault, responses
from nextword.serve.web.middleware.rate_limit import count_as
from nextword.serve.web.profiles import Profiles

WORK_LIMIT = 64_000  # tokens that all texts of a request may have
COUNTED_TOKENS = 16  # to be written, for which a request counts as one in the limit of the rate
LATE = ("the text was not written within the deadline of the service; ask for fewer tokens, or stream: then the "
        "deadline counts for each part")
TOGETHER = 8  # texts of one request that are written at the same time, so that a request cannot fill the queue


def build_router(dispatcher: AnyDispatcher, profiles: Profiles) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["like OpenAI's"])
    _add_completions(router, dispatcher, profiles)
    _add_models(router, dispatcher)
    return router


def _no_such_model(name: str) -> Fault:
    message = f"there is no model {name!r}; GET /v1/models lists the served model"
    return Fault(404, message, code="model_not_found", param="model")


def _add_completions(router: APIRouter, dispatcher: AnyDispatcher, profiles: Profiles) -> None:
    streamed = {"content": {"text/event-stream": {}}, "description": "The texts; with `stream`, events with one "
                "`Completion` each and at last `data: [DONE]`"}

    @router.post("/v1/completions/", include_in_schema=False)
    @router.post(
        "/v1/completions",
        operation_id="completions",
        summary="Continue a text",
        response_model=Completion,
        responses={200: streamed, **responses(400, 401, 404, 413, 415, 429, 500, 501, 503, 504, openai=True)},
    )
    async def completions(question: CompletionRequest, request: Request) -> Response:
        if question.model not in (None, dispatcher.model):
            raise _no_such_model(question.model)
        if (tokens := len(question.prompts) * question.texts * (question.max_tokens or 0)) > WORK_LIMIT:
            number = "n" if question.texts == question.n else "best_of"
            raise Fault(422, f"prompts × {number} × max_tokens is {tokens:,}; a request may ask for {WORK_LIMIT:,} "
                        "tokens", "max_tokens")
        count_as(_cost(question))
        texts = _Texts(dispatcher.ask, question, dispatcher.model, profiles.key(question.profile))
        if question.stream and question.texts == question.n:
            grown = await texts.grow()  # an error here can still set the status
        else:
            while texts.growing:
                try:
                    await texts.grow()
                except DeadlinePassed:
                    raise Fault(504, LATE, headers={"Retry-After": "1"}) from None
                if await request.is_disconnected():
                    return Response(status_code=499)  # for the metrics: the client has left
            grown = texts.best()
        if not question.stream:
            return Response(texts.completion(grown).model_dump_json(), media_type="application/json")
        events, headers = _events(request, texts, grown), {"Cache-Control": "no-store"}
        if request.scope["http_version"] == "1.0":  # it has no chunks: all events are sent together
            content = "".join([event async for event in events])
            return Response(content, media_type="text/event-stream", headers=headers)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _cost(request: CompletionRequest) -> int:
    """Return as how many requests a completion counts: by the tokens to be written, and those to be rated."""
    pieces = math.ceil((request.max_tokens or 0) / COUNTED_TOKENS)
    rated = [ScoreQuestion(prompt[:SCORE_LIMIT]).cost for prompt in request.prompts]
    return len(rated) * request.texts * pieces + (sum(rated) if request.echo and request.logprobs is not None else 0)


def _add_models(router: APIRouter, dispatcher: AnyDispatcher) -> None:
    started = int(time.time())

    @router.head("/v1/models", include_in_schema=False)
    @router.get("/v1/models/", include_in_schema=False)
    @router.get("/v1/models", operation_id="models", summary="The served models",
                responses=responses(401, 429, openai=True))
    async def models() -> ServedModels:
        return ServedModels(data=[ServedModel(id=dispatcher.model, created=started)])

    @router.head(f"/v1/models/{rest('name')}", include_in_schema=False)
    @router.get(f"/v1/models/{rest('name')}", operation_id="model", summary="A served model",
                responses=responses(401, 404, 429, openai=True))
    async def one_model(name: str) -> ServedModel:
        if name != dispatcher.model:
            raise _no_such_model(name)
        return ServedModel(id=name, created=started)


class _Texts:
    """The texts of a request. A few of them grow at a time."""

    def __init__(self, ask: Ask, request: CompletionRequest, model: str, profile: ProfileKey):
        seed = request.seed if request.seed is not None else random.getrandbits(63)
        self._n, self._each = request.n or 1, request.texts
        prompts = [prompt for prompt in request.prompts for _ in range(self._each)]
        self._texts = [CompletionText(ask, request, prompt, index, seed, profile)
                       for index, prompt in enumerate(prompts)]
        self._common = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self.with_usage = bool(request.stream_options and request.stream_options.include_usage)

    @property
    def growing(self) -> list[CompletionText]:
        return [text for text in self._texts if not text.finish_reason]

    async def grow(self) -> list[CompletionText]:
        """Let up to TOGETHER texts grow, and return them."""
        texts = self.growing[:TOGETHER]
        results = await asyncio.gather(*(text.grow() for text in texts), return_exceptions=True)
        for error in results:
            if error is not None:
                raise error
        return texts

    def best(self) -> list[CompletionText]:
        """Return the `n` likeliest texts of each prompt, and number them anew. Call this when no text is growing."""
        best: list[CompletionText] = []
        for start in range(0, len(self._texts), self._each):
            group = self._texts[start : start + self._each]
            likeliest = heapq.nlargest(self._n, group, key=lambda text: text.mean_logprob)
            best += [text for text in group if text in likeliest]
        for index, text in enumerate(best):
            text.index = index
        return best

    def completion(self, texts: list[CompletionText]) -> Completion:
        return Completion(**self._common, choices=[text.take() for text in texts], usage=self._usage())

    def event(self, choice: Choice) -> str:
        return _event(Completion(**self._common, choices=[choice]).model_dump_json(exclude={"usage"}))

    def usage_event(self) -> str:
        return _event(Completion(**self._common, choices=[], usage=self._usage()).model_dump_json())

    def _usage(self) -> Usage:
        prompt = sum(text.prompt_tokens for text in self._texts[:: self._each])
        written = sum(text.completion_tokens for text in self._texts)
        return Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


async def _events(request: Request, texts: _Texts, grown: list[CompletionText]) -> AsyncIterator[str]:
    """Yield server-sent events. When the reader leaves, the iterator is closed and asks no more questions."""
    while grown:
        for text in grown:
            for choice in text.take_each():
                yield texts.event(choice)
        restart_clock()
        try:
            grown = await texts.grow()
        except NoAnswer as error:  # the status was sent before
            yield _event(as_fault(error, request).openai_error().model_dump_json())
            return
    if texts.with_usage:
        yield texts.usage_event()
    yield _event("[DONE]")


def _event(data: str) -> str:
    return f"data: {data}\n\n"
