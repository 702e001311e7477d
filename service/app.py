"""The FastAPI application, built from its settings."""

import math
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from contracts.errors import InvalidInput, NotFound, StochConError
from service.activations import Activations
from service.context import Context
from service.drift import Baselines
from service.edge import Edge
from service.encoding.providers import usable_cores
from service.engine import Engine
from service.epoch import Epoch
from service.jobs.jobs import Jobs
from service.jobs.ledger import Ledger
from service.jobs.opening import open_ledger
from service.jobs.roots import Roots
from service.metrics import Metrics
from service.openapi import describe_app
from service.problems import describe_fault, method_problem_response
from service.routers import collections, encoding, health, items, jobs, models, pages, search
from service.settings import Settings, check_exposure

_ROUTERS = (encoding, search, items, collections, jobs, models, health, pages)

_SLOW_THREADS = 16

_TITLE = "StochCon"
_DESCRIPTION = "Images go in, 2048-bit codes come out; codes are kept, searched and classified."


def create_app(
    settings: Settings,
    engine: Engine | None = None,
    metrics: Metrics | None = None,
    ledger: Ledger | None = None,
    stopping: threading.Event | None = None,
) -> FastAPI:
    """The service as an ASGI app. It owns `engine` and `ledger`, or opens them, from its start to its end.

    `stopping` is set by whoever runs the app when it is about to end. Raises ValueError for settings that
    would let others in without a key, and for a root that is not there.
    """
    check_exposure(settings)
    roots = Roots(settings.roots)
    counted = metrics or Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = engine
        if opened is None:
            opened = await anyio.to_thread.run_sync(_open, settings, counted)
        kept = ledger
        if kept is None:
            kept = await anyio.to_thread.run_sync(open_ledger, settings.data, settings.redis_address)
        counted.observe(
            queue_images=lambda: opened.num_pending,
            is_ready=lambda: opened.is_started,
            collections=opened.collections,
            waiting_shards=lambda: _num_waiting(kept),
            baselines=Baselines(opened.store).latest,
        )
        threads = anyio.CapacityLimiter(max(4, 2 * usable_cores()))
        slow_threads = anyio.CapacityLimiter(_SLOW_THREADS)
        jobs_in = Jobs(kept, roots, opened)
        ending = stopping or threading.Event()
        epoch = Epoch()
        activations = Activations(opened, kept, settings, epoch.change_from_thread)
        await anyio.to_thread.run_sync(activations.resume)
        app.state.context = Context(
            opened, jobs_in, settings, counted, threads, slow_threads, epoch, activations, ending
        )
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(activations.stop)
            await anyio.to_thread.run_sync(kept.close)
            await anyio.to_thread.run_sync(opened.close)

    app = FastAPI(
        title=_TITLE,
        version="0.1.0",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for module in _ROUTERS:
        app.include_router(module.router)
    app.add_exception_handler(HTTPException, _on_routing_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_middleware(Edge, settings=settings, metrics=counted)
    app.openapi = lambda: describe_app(app)  # type: ignore[method-assign]
    return app


def _open(settings: Settings, metrics: Metrics) -> Engine:
    engine = Engine.open(settings, observer=metrics)
    try:
        engine.start()
    except BaseException:
        engine.close()
        raise
    return engine


def _num_waiting(ledger: Ledger) -> float:
    try:
        return ledger.num_waiting()
    except StochConError:
        return math.nan  # The other metrics can be told all the same.


async def _on_routing_error(request: Request, exc: Exception) -> Response:
    """Starlette raises HTTPException for unknown paths and methods; nothing else here does."""
    assert isinstance(exc, HTTPException)
    path = request.scope["path"]
    if exc.status_code == HTTPStatus.NOT_FOUND:
        raise NotFound(f"there is no {path} here: see /docs for the calls there are") from exc
    # Each method has a route of its own, so no single route knows all that a path takes.
    allowed = {
        method
        for module in _ROUTERS
        for route in module.router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path)
        for method in route.methods or ()
    }
    if "GET" in allowed:
        allowed.add("HEAD")  # See service.edge.
    return method_problem_response(request.method, path, allowed)


async def _on_validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    raise InvalidInput(describe_fault(dict(exc.errors()[0]))) from exc
