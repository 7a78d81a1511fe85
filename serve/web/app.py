"""The routes: what can be asked, the documentation, and the page."""
from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from nextword.serve.web import errors
from nextword.serve.web import health
from nextword.serve.web import completions as openai
from nextword.serve.engine.client_presence import Departures
from nextword.serve.engine.supervisor import Engine
from nextword.serve.web.middleware.security_headers import SecurityHeaders
from nextword.serve.web.middleware.api_keys import Keys
from nextword.serve.web.middleware.body_limit import BodyLimit
from nextword.serve.metrics import RequestMetrics
from nextword.serve.web.middleware.rate_limit import RateLimit
from nextword.serve.web.middleware.request_log import Requests
from nextword.serve.schemas import NextWordsRequest, NextWordsResponse, NextWordsResults, ScoreRequest, ScoreResponse
from nextword.serve.settings import Settings

PAGE = Path(__file__).parent / "page"
TOGETHER = 8  # texts of one request that are asked at the same time, so that others are answered between them
ALLOWED_HEADERS = ["authorization", "content-type", "x-api-key", "x-request-id", "x-session"]  # from pages of other origins
EXPOSED_HEADERS = ["retry-after", "x-request-id"]
DESCRIPTION = """Suggests the words that may come next in a text.

Errors have one shape, whatever the status: `{"error": {"type": …, "message": …, "where": …}}`.
"""


class _App(FastAPI):
    """FastAPI, and around all of it, its last resort for errors too, what each request goes through first."""

    def __init__(self, settings: Settings, **options):
        super().__init__(**options)
        self._settings, self._keys = settings, settings.keys()

    def build_middleware_stack(self) -> ASGIApp:
        app, settings = super().build_middleware_stack(), self._settings
        if settings.rate:
            app = RateLimit(app, settings.rate)
        if self._keys:
            app = Keys(app, self._keys)
        if settings.cors_origins:
            app = CORSMiddleware(app, settings.cors_origins, ["GET", "POST"], ALLOWED_HEADERS, expose_headers=EXPOSED_HEADERS)
        return RequestMetrics(Requests(SecurityHeaders(app), settings.access_log))


def build_app(engine: Engine, settings: Settings) -> FastAPI:
    """Returns the application that asks `engine`."""
    app = _App(
        settings,
        title="Nextword",
        version="1",
        description=DESCRIPTION,
        lifespan=engine.lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # it sends nothing anywhere
    )
    app.add_middleware(Departures)
    app.add_middleware(BodyLimit)
    errors.install(app)
    _add_questions(app, engine)
    app.include_router(openai.build_router(engine))
    app.include_router(health.build_router(engine))
    _add_pages(app)
    return app


def _add_questions(app: FastAPI, engine: Engine) -> None:
    refusals = errors.responses(400, 401, 413, 415, 422, 429, 500, 503, 504)

    @app.post(
        "/v1/next-words",
        operation_id="next_words",
        tags=["suggestions"],
        summary="The words that may come next",
        response_model=NextWordsResponse | NextWordsResults,
        responses=refusals,
    )
    async def next_words(question: NextWordsRequest) -> Response:
        """Answers one text by `NextWordsResponse`, and a list of texts by `NextWordsResults`."""
        fields = question.model_dump()
        if isinstance(question.text, str):
            return _json(await engine.ask(("next_words", fields)))
        return _json(b'{"results":[' + b",".join(await _each(question.text, fields)) + b"]}")

    async def _each(texts: list[str], fields: dict) -> list[bytes]:
        some = asyncio.Semaphore(TOGETHER)

        async def ask(text: str) -> bytes:
            async with some:
                return await engine.ask(("next_words", {**fields, "text": text}))

        return await asyncio.gather(*map(ask, texts))

    @app.post(
        "/v1/score",
        operation_id="score",
        tags=["suggestions"],
        summary="How probable a text is",
        response_model=ScoreResponse,
        responses=refusals,
    )
    async def score(question: ScoreRequest) -> Response:
        """Gives the probability of each word, for choosing among candidates of speech or handwriting recognition."""
        return _json(await engine.ask(("score", question.model_dump())))


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _add_pages(app: FastAPI) -> None:
    for path, file in (("/", "index.html"), ("/docs", "docs.html")):
        app.add_route(path, _page(PAGE / file), include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))


def _page(file: Path):
    async def page(request: Request) -> FileResponse:
        return FileResponse(file)

    return page
