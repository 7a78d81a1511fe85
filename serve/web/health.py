"""The routes for operators: health, readiness and metrics."""
from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from nextword.serve import metrics
from nextword.serve.engine.dispatcher import AnyDispatcher
from nextword.serve.engine.faults import NoAnswer
from nextword.serve.questions import NextWordsQuestion
from nextword.serve.schemas import Health, Readiness


def build_router(dispatcher: AnyDispatcher) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["operation"])

    @router.head("/health", include_in_schema=False)
    @router.get(
        "/health",
        operation_id="health",
        summary="Health: the model answers",
        response_model=Health,
        responses={503: {"model": Health, "description": "Not now"}},
    )
    async def health(response: Response) -> Health:
        """Asks the model a question, in the same way as a request."""
        try:
            await dispatcher.ask(NextWordsQuestion(text="", k=1))
        except NoAnswer as error:
            response.status_code = 503
            return Health(status=str(error) or "not answering", model=dispatcher.model)
        return Health(status="ready", model=dispatcher.model)

    @router.head("/ready", include_in_schema=False)
    @router.get(
        "/ready",
        operation_id="ready",
        summary="Readiness: the service accepts requests",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not now: no worker is ready, or too many requests wait"}},
    )
    async def ready(response: Response) -> Readiness:
        """Answers at once, without a question to a worker."""
        reason = dispatcher.unavailable()
        if reason:
            response.status_code = 503
        return Readiness(status=reason or "ready", workers=dispatcher.ready_workers, waiting=dispatcher.waiting)

    @router.head("/metrics", include_in_schema=False)
    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
    )
    async def exposition() -> Response:
        """Returns the number and time of requests by route and status, batch sizes, figures of the state cache, waiting
        requests, CPU time and memory of the processes, restarts of workers, and the versions of service and model.
        """
        content = metrics.exposition(dispatcher)
        return PlainTextResponse(content, media_type="text/plain; version=0.0.4")

    return router
