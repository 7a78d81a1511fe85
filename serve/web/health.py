"""The routes for who operates the service: is it alive, should it get requests, what does it do."""
from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from nextword.serve import metrics
from nextword.serve.engine.supervisor import DeadlinePassed, Engine, Unavailable, WorkerFault
from nextword.serve.schemas import Health, NextWordsRequest, Readiness


def build_router(engine: Engine) -> APIRouter:
    """Returns the routes about `engine`."""
    router = APIRouter(tags=["operation"])
    _add_health(router, engine)
    _add_ready(router, engine)
    _add_metrics(router, engine)
    return router


def _add_health(router: APIRouter, engine: Engine) -> None:
    question = ("next_words", NextWordsRequest(text="", k=1).model_dump())

    @router.get(
        "/health",
        operation_id="health",
        summary="Whether a request is answered",
        response_model=Health,
        responses={503: {"model": Health, "description": "Not now"}},
    )
    async def health(response: Response) -> Health:
        """Asks the model itself, on the way that every request goes."""
        try:
            await engine.ask(question)
        except (Unavailable, DeadlinePassed, WorkerFault) as error:
            response.status_code = 503
            return Health(status=str(error) or "not answering", model=engine.model)
        return Health(status="ready", model=engine.model)


def _add_ready(router: APIRouter, engine: Engine) -> None:
    @router.get(
        "/ready",
        operation_id="ready",
        summary="Whether requests should be sent here",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not now: no worker is ready, or too many requests wait"}},
    )
    async def ready(response: Response) -> Readiness:
        """Tells what is known at once, without asking a worker."""
        reason = engine.unavailable()
        if reason:
            response.status_code = 503
        return Readiness(status=reason or "ready", workers=engine.ready_workers, waiting=engine.waiting)


def _add_metrics(router: APIRouter, engine: Engine) -> None:
    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="What the service has done, for Prometheus",
        response_class=PlainTextResponse,
    )
    async def exposition() -> Response:
        """Requests and their time by route and status, batch sizes, the state cache, and how many requests wait."""
        metrics.WAITING.set(engine.waiting)
        return PlainTextResponse(metrics.exposition(), media_type="text/plain; version=0.0.4")
