"""The routes for operators: is the service alive, should it get requests, what has it done."""
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
        summary="Whether a request is answered",
        response_model=Health,
        responses={503: {"model": Health, "description": "Not now"}},
    )
    async def health(response: Response) -> Health:
        """Asks the model itself, on the way that every request goes."""
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
        summary="Whether requests should be sent here",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not now: no worker is ready, or too many requests wait"}},
    )
    async def ready(response: Response) -> Readiness:
        """Answers at once, without asking a worker."""
        reason = dispatcher.unavailable()
        if reason:
            response.status_code = 503
        return Readiness(status=reason or "ready", workers=dispatcher.ready_workers, waiting=dispatcher.waiting)

    @router.head("/metrics", include_in_schema=False)
    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="What the service has done, for Prometheus",
        response_class=PlainTextResponse,
    )
    async def exposition() -> Response:
        """Gives requests and their time by route and status, batch sizes, the state cache, waiting requests, CPU and
        memory of the processes, restarts of workers, and the versions of service and model.
        """
        content = metrics.exposition(dispatcher)
        return PlainTextResponse(content, media_type="text/plain; version=0.0.4")

    return router
