"""The application of the HTTP process: the routes, the documentation, and the page."""
from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Lifespan
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from nextword.serve.engine.client_presence import ClientPresence
from nextword.serve.engine.dispatcher import AnyDispatcher
from nextword.serve.questions import NextLettersQuestion, NextWordsQuestion, ScoreQuestion
from nextword.serve.schemas import (
    HISTORY_BLOCK,
    TEXT_BLOCK,
    Layout,
    NextLettersRequest,
    NextLettersResponse,
    NextWordsRequest,
    NextWordsResponse,
    NextWordsResults,
    ScoreRequest,
    ScoreResponse,
)
from nextword.serve.settings import Settings
from nextword.serve.text_window import window
from nextword.serve.web import completions, errors, health
from nextword.serve.web import profiles as profile_routes
from nextword.serve.web.body_routes import BodyRoutes
from nextword.serve.web.middleware.api_keys import APIKeys
from nextword.serve.web.middleware.body_limit import BodyLimit
from nextword.serve.web.middleware.hosts import Hosts
from nextword.serve.web.middleware.rate_limit import RateLimit, count_as
from nextword.serve.web.middleware.refusals import Refusals
from nextword.serve.web.middleware.request_log import RequestLog
from nextword.serve.web.middleware.security_headers import SecurityHeaders
from nextword.serve.web.profiles import Profiles
from nextword.serve.web.route_names import RouteNames

PAGE = Path(__file__).parent / "page"
TOGETHER = 8  # texts of one request that are answered at the same time, so that other requests come between them
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]  # that pages of allowed origins may use
EXPOSED_HEADERS = ["retry-after", "x-request-id"]  # pages of allowed origins may read these
DESCRIPTION = """Suggests the next words of a text.

Errors have one shape, whatever the status: `{"error": {"type": …, "message": …, "where": …}}`.
"""


class _App(FastAPI):
    """FastAPI with middlewares around the whole application, including its handler of unexpected errors."""

    def __init__(self, settings: Settings, **options: Any):
        super().__init__(**options)
        self._settings, self._keys = settings, settings.keys()

    def build_middleware_stack(self) -> ASGIApp:
        app, settings = super().build_middleware_stack(), self._settings
        if settings.rate:
            app = RateLimit(app, settings.rate)
        if self._keys:
            app = APIKeys(app, self._keys)
        if settings.cors_origins:
            # An allowed origin may send any header: clients add their own, such as OpenAI's `x-stainless-os`.
            app = CORSMiddleware(app, settings.cors_origins, METHODS, ["*"],
                                 expose_headers=EXPOSED_HEADERS)
        if settings.hosts:
            app = Hosts(app, settings.hosts)
        app = RequestLog(SecurityHeaders(Refusals(app)), settings.access_log)
        if settings.trusted_proxies:
            return cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, app), [*settings.trusted_proxies]))
        return app


def build_app(dispatcher: AnyDispatcher, settings: Settings, lifespan: Lifespan[Any] | None = None) -> FastAPI:
    """Return the application. `dispatcher` answers its questions."""
    profiles = Profiles(settings)
    app = _App(
        settings,
        title="Nextword",
        version="1",
        description=DESCRIPTION,
        servers=[{"url": "."}],  # relative to the document, so also below the path prefix of a proxy
        lifespan=_closing(profiles, lifespan),
        docs_url=None,  # FastAPI's own pages load scripts from the Internet
        redoc_url=None,
        redirect_slashes=False,
        # The service sends nothing to anybody but its clients.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_middleware(BodyRoutes, routes=app.routes)
    app.add_middleware(ClientPresence)
    app.add_middleware(BodyLimit)
    errors.install(app)
    _add_questions(app, dispatcher, profiles, settings.layout)
    routers = [completions.build_router(dispatcher, profiles), profile_routes.build_router(dispatcher, profiles),
               health.build_router(dispatcher)]
    for router in routers:
        app.include_router(router)
    for path, page in (("/", _start_page(profiles.on)), ("/docs", _page(PAGE / "docs.html"))):
        app.add_route(path, page, include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))
    app.state.route_names = RouteNames([*app.routes, *(route for router in routers for route in router.routes)])
    return app


def _closing(profiles: Profiles, lifespan: Lifespan[Any] | None) -> Lifespan[Any]:
    """Return a lifespan at whose end the store of profiles is closed."""

    @contextlib.asynccontextmanager
    async def closing(app: ASGIApp) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else contextlib.nullcontext():
            yield
        profiles.close()

    return closing


def _add_questions(app: FastAPI, dispatcher: AnyDispatcher, profiles: Profiles, layout: Layout) -> None:
    refusals = errors.responses(400, 401, 404, 413, 415, 422, 429, 500, 501, 503, 504)

    @app.post(
        "/v1/next-words",
        operation_id="next_words",
        tags=["suggestions"],
        summary="The likeliest next words",
        response_model=NextWordsResponse | NextWordsResults,
        responses=refusals,
    )
    async def next_words(request: NextWordsRequest) -> Response:
        """Answers one text with `NextWordsResponse`, and a list of texts with `NextWordsResults`."""
        history = window(request.history, HISTORY_BLOCK)
        options = vars(request) | {"profile": profiles.key(request.profile), "layout": request.layout or layout}
        del options["text"], options["history"]
        if isinstance(request.text, str):
            question = NextWordsQuestion(window(request.text, TEXT_BLOCK), history, **options)
            count_as(question.cost)
            return _json(await dispatcher.ask(question))
        with dispatcher.shared(history) as shared:
            questions = [NextWordsQuestion(window(text, TEXT_BLOCK), shared, **options) for text in request.text]
            count_as(sum(question.cost for question in questions))
            return _json(b'{"results":[' + b",".join(await _ask_each(dispatcher, questions)) + b"]}")

    @app.post(
        "/v1/next-letters",
        operation_id="next_letters",
        tags=["suggestions"],
        summary="The probabilities of the next letter",
        response_model=NextLettersResponse,
        responses=refusals,
    )
    async def next_letters(request: NextLettersRequest) -> Response:
        """Gives the probability of each letter, for keyboards that are scanned, used with the eyes, or light up."""
        text, history = window(request.text, TEXT_BLOCK), window(request.history, HISTORY_BLOCK)
        question = NextLettersQuestion(text, history, request.partial, profiles.key(request.profile))
        count_as(question.cost)
        return _json(await dispatcher.ask(question))

    @app.post(
        "/v1/score",
        operation_id="score",
        tags=["suggestions"],
        summary="The probability of a text",
        response_model=ScoreResponse,
        responses=refusals,
    )
    async def score(request: ScoreRequest) -> Response:
        """Gives the probability of each word, for choosing among candidates of speech or handwriting recognition."""
        question = ScoreQuestion(request.text, profiles.key(request.profile))
        count_as(question.cost)
        return _json(await dispatcher.ask(question))


async def _ask_each(dispatcher: AnyDispatcher, questions: list[NextWordsQuestion]) -> list[bytes]:
    """Ask the questions, TOGETHER at a time or fewer costly ones. If one fails, the others are given up."""
    slots = asyncio.Semaphore(max(1, TOGETHER // questions[0].cost))

    async def ask(question: NextWordsQuestion) -> bytes:
        async with slots:
            return await dispatcher.ask(question)

    tasks = [asyncio.create_task(ask(question)) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _start_page(keeps_profiles: bool) -> Callable[[Request], Awaitable[Response]]:
    """Return the page; it is marked if it can use profiles."""
    file = PAGE / "index.html"
    if not keeps_profiles:
        return _page(file)
    content = file.read_text(encoding="utf-8").replace("<html ", "<html data-profiles ", 1)

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(content)

    return page


def _page(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> FileResponse:
        return FileResponse(file)

    return page
