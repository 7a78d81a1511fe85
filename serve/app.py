"""The routes: what can be asked, the documentation, and the page."""
from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from serve import errors, openai
from serve.engine import DeadlinePassed, Engine, Unavailable, WorkerFault
from serve.limits import BodyLimit
from serve.schemas import Health, NextWordsRequest, NextWordsResponse

PAGE = Path(__file__).parent / "page"
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
    app.add_middleware(BodyLimit)
    errors.install(app)
    _add_questions(app, engine)
    app.include_router(openai.build_router(engine.ask, model))
    _add_health(app, engine, model)
    _add_pages(app)
    return app


def _add_questions(app: FastAPI, engine: Engine) -> None:
    @app.post(
        "/v1/next-words",
        operation_id="next_words",
        tags=["suggestions"],
        summary="The words that may come next",
        response_model=NextWordsResponse,
        responses=errors.responses(400, 413, 415, 422, 500, 503, 504),
    )
    async def next_words(question: NextWordsRequest) -> Response:
        return Response(await engine.ask(("next_words", question.model_dump())), media_type="application/json")


def _add_health(app: FastAPI, engine: Engine, model: str) -> None:
    question = ("next_words", NextWordsRequest(text="", k=1).model_dump())

    @app.get(
        "/health",
        operation_id="health",
        tags=["operation"],
        summary="Whether a request can be answered",
        response_model=Health,
        responses={503: {"model": Health, "description": "Not now"}},
    )
    async def health(response: Response) -> Health:
        """Asks the model itself, on the way that every request goes."""
        try:
            await engine.ask(question)
        except (Unavailable, DeadlinePassed, WorkerFault) as error:
            response.status_code = 503
            return Health(status=str(error) or "not answering", model=model)
        return Health(status="ready", model=model)


def _add_pages(app: FastAPI) -> None:
    for path, file in (("/", "index.html"), ("/docs", "docs.html")):
        app.add_route(path, _page(PAGE / file), include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))


def _page(file: Path):
    async def page(request: Request) -> FileResponse:
        return FileResponse(file)

    return page
