"""What the routes share: engine, jobs, settings, metrics, and threads for work that blocks."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request

from contracts.errors import InvalidImage, StochConError, TooLarge
from index.protocol import SearchResult
from service.activations import Activations
from service.edge import ClientGone
from service.encoding.encoding import Encoding
from service.engine import Engine
from service.epoch import Epoch
from service.jobs.jobs import Jobs
from service.metrics import Metrics, Use
from service.queries import Query, SearchOptions
from service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """Made once for an app; found by `context_of`."""

    engine: Engine
    jobs: Jobs
    settings: Settings
    metrics: Metrics
    threads: anyio.CapacityLimiter
    """Bounds the threads that wait for the store."""
    slow_threads: anyio.CapacityLimiter
    epoch: Epoch
    activations: Activations
    stopping: threading.Event
    """Set once the service was told to stop: no new work should come."""

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks in a thread. A write that has begun ends whatever becomes of its client."""
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.threads)

    async def call_apart(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for what may wait for long, such as a ledger elsewhere or a model that is loaded.

        It has threads of its own, so that searches and writes never wait for it.
        """
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.slow_threads)

    async def encode(
        self, request: Request, images: Sequence[bytes], use: Use
    ) -> list[Encoding | StochConError]:
        """Encodings in order, with an error in the place of each bad image; `use` is for the metrics.

        Raises Overloaded, BackendUnavailable, and ClientGone if the client goes away, whose images
        are then dropped from the queue.
        """
        futures = self.engine.submit(images)
        results: list[Encoding | StochConError] = []
        for outcome in await _gather(request, futures):
            if isinstance(outcome, Encoding):
                self.metrics.image("ok")
                self.metrics.encoding(outcome, use)
            elif isinstance(outcome, InvalidImage | TooLarge):
                self.metrics.image(outcome.slug)
            else:
                raise outcome  # Not the image's fault, so not of this image alone.
            results.append(outcome)
        return results

    def search_many(self, queries: Sequence[Query], options: SearchOptions) -> list[SearchResult]:
        """As the engine's; how near the nearest item is to an image is counted, if all items were asked."""
        results = self.engine.search_many(queries, options)
        if options.filter is None and options.radius is None:
            for query, result in zip(queries, results, strict=True):
                if query.image is not None and result.hits:
                    nearest = min(hit.distance for hit in result.hits)
                    self.metrics.nearest(options.collection, nearest / self.engine.active.manifest.num_bits)
        return results


def context_of(request: Request) -> Context:
    """The context of the app that got this request."""
    context: Context = request.app.state.context
    return context


async def _gather(request: Request, futures: Sequence[Future[Encoding]]) -> list[Encoding | BaseException]:
    done = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ClientGone
        return done.result()
    finally:
        gone.cancel()
        done.cancel()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
