"""`/healthz`, `/readyz` and `/metrics`: for those who watch the service."""

from fastapi import APIRouter, Request, Response

from contracts.errors import BackendUnavailable
from service.context import context_of
from service.routers.answers import json_response, model_body
from service.schemas import Alive, Ready

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=None, responses={200: {"model": Alive}})
async def healthz() -> Response:
    """The process is alive and its event loop turns."""
    return json_response({"status": "alive"})


@router.get("/readyz", response_model=None, responses={200: {"model": Ready}})
async def readyz(request: Request) -> Response:
    """The model is loaded and works, and the service is not about to stop, or 503. Says what runs it."""
    context = context_of(request)
    if context.stopping.is_set():
        raise BackendUnavailable("the service is shutting down: ask another, or wait until it is back")
    engine = context.engine
    if not engine.is_started:
        raise BackendUnavailable(
            f"the model does not run ({engine.failure}): look at the log and restart the service"
        )
    provider = engine.encoder.provider
    return json_response(
        {
            "status": "ready",
            "model": model_body(engine.active.ref()),
            "provider": provider,
            "precision": provider.rpartition("-")[2],
            "notes": engine.encoder.notes,
        }
    )


@router.get("/metrics", response_model=None, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Everything that is counted, in Prometheus' text format."""
    context = context_of(request)
    text = await context.call(context.metrics.render)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
