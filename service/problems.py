"""The one place that knows how errors look over HTTP: problem+json, RFC 9457."""

from collections.abc import Iterable
from math import ceil
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from contracts import errors
from contracts.errors import StochConError
from contracts.quoting import quote

PROBLEM_JSON = "application/problem+json"

STATUS: dict[type[StochConError], int] = {
    errors.InvalidInput: 422,
    errors.TooLarge: 413,
    errors.RequestTimeout: 408,
    errors.UnsupportedMedia: 415,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.ModelMismatch: 409,
    errors.Conflict: 409,
    errors.InvalidModel: 422,
    errors.StoreLocked: 503,
    errors.StoreCorrupt: 500,
    errors.Overloaded: 429,
    errors.BackendUnavailable: 503,
    StochConError: 500,
}
"""Status of each exception; a child has its parent's unless it is here itself."""


def status_of(error: StochConError) -> int:
    """The HTTP status of an exception."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(error: StochConError) -> dict[str, Any]:
    """The problem document of an exception; also what stands in the place of a bad image."""
    return _document(error.slug, error.title, status_of(error), str(error))


def problem_response(error: StochConError) -> Response:
    """The answer to a request that failed with `error`."""
    headers = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    if isinstance(error, errors.RequestTimeout):
        headers["Connection"] = "close"
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return _response(problem(error), headers)


def method_problem_response(method: str, path: str, allowed: Iterable[str]) -> Response:
    """The answer to a method that the path does not take, but those `allowed`."""
    methods = ", ".join(sorted(allowed))
    detail = f"{path} does not take {method}: it takes {methods}"
    return _response(_document("method-not-allowed", "Method not allowed", 405, detail), {"Allow": methods})


def internal_problem_response() -> Response:
    """The answer to an error that nobody foresaw; what it was stands in the log only."""
    detail = "the service failed in a way that was not foreseen: the log says more; report it if it recurs"
    return _response(_document("internal", "Internal error", 500, detail))


def describe(error: ValidationError) -> str:
    """What is wrong with parameters that pydantic refused: the first fault, with its value."""
    return describe_fault(dict(error.errors(include_url=False)[0]))


def describe_fault(fault: dict[str, Any]) -> str:
    """One fault as pydantic and FastAPI list them: where, the value, what it should be."""
    where = ".".join(str(part) for part in fault["loc"] if part not in ("query", "path", "body"))
    if fault["type"] == "extra_forbidden":
        return f"there is no parameter {where!r} here: see /docs for what this call takes"
    if fault["type"] == "missing":
        return f"{where} is missing: see /docs for what this call takes"
    if fault["type"] in ("too_long", "too_short"):
        limit = fault["ctx"].get("max_length", fault["ctx"].get("min_length"))
        bound = "most" if fault["type"] == "too_long" else "fewest"
        return f"{where} has {fault['ctx']['actual_length']} entries and the {bound} allowed are {limit}"
    if fault["type"] in ("dict_type", "model_type"):
        return f"{where} is {quote(fault['input'])}: it should be a JSON object"
    message = str(fault["msg"]).removeprefix("Input ")
    message = f"it {message}" if message.startswith("should ") else f"{message[:1].lower()}{message[1:]}"
    return f"{where} is {quote(fault['input'])}: {message}"


def _document(slug: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {"type": f"urn:stochcon:{slug}", "title": title, "status": status, "detail": detail}


def _response(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    # A message may quote what was sent; orjson takes no lone surrogates, which such a quote may hold.
    document["detail"] = document["detail"].encode("utf-8", "replace").decode()
    return Response(orjson.dumps(document), document["status"], headers, PROBLEM_JSON)
