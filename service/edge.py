"""What every request passes before and after its route: origin, key, body limits, problems, metrics.

Plain ASGI, because only there a body can be refused while it still arrives, chunked or not.
"""

import asyncio
import hmac
import time
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import (
    BackendUnavailable,
    InvalidInput,
    Overloaded,
    RequestTimeout,
    StochConError,
    TooLarge,
    Unauthorized,
)
from service.metrics import Metrics
from service.origin import check_origin, is_open_to_pages
from service.problems import internal_problem_response, problem_response, status_of
from service.settings import Settings

OPEN_PATHS = ("/healthz", "/readyz")
"""What an orchestrator asks without a key."""

CLIENT_GONE = 499
"""Status counted for a request whose client went away; nobody receives it."""

_log = structlog.get_logger("service")


class ClientGone(Exception):
    """The client closed its connection before the answer was ready."""


class Edge:
    """Wraps the app. One instance serves all requests of one event loop."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key else None
        self._is_open_to_pages = is_open_to_pages(settings)
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        exchange = _Exchange(self, receive, send)
        # HEAD is GET whose body the server leaves out.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            headers = Headers(scope=scope)
            self._authorize(scope["path"], headers)
            _check_query(scope["query_string"])
            exchange.expect(headers)
            await self._app(inner, exchange.receive, exchange.send)
        except (ClientGone, ClientDisconnect):
            exchange.status = CLIENT_GONE
        except asyncio.CancelledError:
            # Only the server cancels a request, and only when it stops; it logs what is raised to it.
            if not exchange.status:
                stopping = BackendUnavailable("the service is shutting down: send again when it is back")
                await problem_response(stopping)(scope, receive, exchange.send)
                self._metrics.error(stopping.slug)
        except StochConError as exc:
            if exchange.status:
                raise
            if status_of(exc) >= 500:
                _log.error("request failed", path=scope["path"], error=str(exc))
            await problem_response(exc)(scope, receive, exchange.send)
            self._metrics.error(exc.slug)
        except Exception as exc:
            if exchange.status:
                raise
            _log.error("request failed", path=scope["path"], exc_info=exc)
            await internal_problem_response()(scope, receive, exchange.send)
            self._metrics.error("internal")
        finally:
            self._held_bytes -= exchange.num_bytes
            route = getattr(inner.get("route"), "path_format", "unmatched")
            self._metrics.request(scope["method"], route, exchange.status, time.perf_counter() - start)

    def hold(self, num_bytes: int) -> None:
        """Count bytes of a body that arrived. Raises Overloaded if all bodies together are too many."""
        limit = self._settings.max_total_body_bytes
        if self._held_bytes + num_bytes > limit:
            raise Overloaded(
                f"the requests being answered hold {self._held_bytes} bytes and the limit is {limit}: send "
                "again after the time given, or less at once"
            )
        self._held_bytes += num_bytes

    @property
    def max_body_bytes(self) -> int:
        """Bytes that one body may have."""
        return self._settings.max_body_bytes

    @property
    def body_timeout_s(self) -> float:
        """Seconds that the next bytes of a body may take."""
        return self._settings.body_timeout_s

    def _authorize(self, path: str, headers: Mapping[str, str]) -> None:
        if path in OPEN_PATHS:
            return
        if self._is_open_to_pages:
            check_origin(headers, self._settings.host)
        if self._key is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._key)
        if scheme.lower() != "bearer" or not matches:
            raise Unauthorized(
                "the API key is missing or wrong: send the header `Authorization: Bearer KEY` with the "
                "service's STOCHCON_API_KEY"
            )


def _check_query(query: bytes) -> None:
    """Raise InvalidInput for bytes that are no UTF-8: Starlette puts other characters in their place."""
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"the query string is not UTF-8 ({exc.reason}): percent-encode UTF-8") from exc


class _Exchange:
    """One request: counts its body as it arrives and remembers whether an answer has begun."""

    def __init__(self, edge: Edge, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._receive = receive
        self._send = send
        self._is_body_complete = False
        self.num_bytes = 0
        self.status = 0

    def expect(self, headers: Mapping[str, str]) -> None:
        """Refuse a body that says itself that it is too large. Raises TooLarge."""
        declared = headers.get("content-length", "")
        if declared.isdigit():
            self._check(int(declared))

    async def receive(self) -> Message:
        # After its body a client only waits for the answer, however long that takes.
        timeout_s = None if self._is_body_complete else self._edge.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._receive()
        except TimeoutError as exc:
            raise RequestTimeout(
                f"the rest of the body did not come within {timeout_s:g} s, after {self.num_bytes} bytes: "
                "send it again, without a pause"
            ) from exc
        if message["type"] == "http.request":
            num_bytes = len(message.get("body", b""))
            self._check(self.num_bytes + num_bytes)
            self._edge.hold(num_bytes)
            self.num_bytes += num_bytes
            self._is_body_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    def _check(self, num_bytes: int) -> None:
        limit = self._edge.max_body_bytes
        if num_bytes > limit:
            raise TooLarge(
                f"the request's body has {num_bytes} bytes or more and the limit is {limit}: share the "
                "images or items out over several requests"
            )
