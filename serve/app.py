"""The routes: what can be asked, the documentation, and the page."""
from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from serve import errors, health, openai
from serve.departure import Departures
from serve.engine import Engine
from serve.limits import BodyLimit
from serve.metrics import RequestMetrics
from serve.schemas import NextWordsRequest, NextWordsResponse, NextWordsResults, ScoreRequest, ScoreResponse

PAGE = Path(__file__).parent / "page"
TOGETHER = 8  # texts of one request that are asked at the same time, so that others are answered between them
DESCRIPTION = """Suggests the words that may come next in a text.

Errors have one shape, whatever the status: `{"error": {"type": …, "message": …, "where": …}}`.
"""


def build_app(engine: Engine, model: str) -> FastAPI:
    """Returns the application that asks `engine`; `model` is the name of what it serves."""
    app = FastAPI(
        title="Nextword",
        version="1",
        description=DESCRIPTION,
        lifespan=engine.lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Departures)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestMetrics)
    errors.install(app)
    _add_questions(app, engine)
    app.include_router(openai.build_router(engine.ask, model))
    app.include_router(health.build_router(engine, model))
    _add_pages(app)
    return app


def _add_questions(app: FastAPI, engine: Engine) -> None:
    refusals = errors.responses(400, 413, 415, 422, 500, 503, 504)

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
