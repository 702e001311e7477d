"""The FastAPI application, built from its settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from contracts.errors import InvalidInput, NotFound
from service.context import Context
from service.edge import Edge
from service.encoding.providers import usable_cores
from service.engine import Engine
from service.metrics import Metrics
from service.openapi import describe_app
from service.problems import describe_fault, method_problem_response
from service.routers import collections, encoding, health, items, models, pages, search
from service.settings import Settings, check_exposure

_ROUTERS = (encoding, search, items, collections, models, health, pages)

_TITLE = "StochCon"
_DESCRIPTION = "Images go in, 2048-bit codes come out; codes are kept, searched and classified."


def create_app(settings: Settings, engine: Engine | None = None, metrics: Metrics | None = None) -> FastAPI:
    """The service as an ASGI app. It owns `engine`, or opens one, from its start to its end.

    Raises ValueError for settings that would let others in without a key.
    """
    check_exposure(settings)
    counted = metrics or Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = engine
        if opened is None:
            opened = await anyio.to_thread.run_sync(_open, settings, counted)
        counted.observe(
            queue_images=lambda: opened.num_pending,
            is_ready=lambda: opened.is_started,
            collections=opened.collections,
        )
        threads = anyio.CapacityLimiter(max(4, 2 * usable_cores()))
        app.state.context = Context(opened, settings, counted, threads)
        try:
            yield
        finally:
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
