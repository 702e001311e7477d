"""One HTTP exchange with the service: retries, and problems turned back into exceptions."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import orjson

from contracts.errors import ERRORS_BY_SLUG, BackendUnavailable, Overloaded, StochConError

PROBLEM_PREFIX = "urn:stochcon:"
"""`type` of a problem is this and the slug of an exception of `contracts.errors`."""

LONGEST_WAIT_S = 30.0
"""However long a full queue asks us to stay away, we look again after this."""


class Transport:
    """A connection to one service. Safe to use from many threads."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float, max_retries: int) -> None:
        """Raises ValueError unless `url` is one of http or https; connects only when first used."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the service's URL is {url!r}: it must start with http:// or https://")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url.rstrip("/")
        self._max_retries = max_retries
        try:
            self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout_s)
        except httpx2.InvalidURL as exc:
            raise ValueError(f"the service's URL is {url!r}: {exc}") from exc

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        files: Any = None,
        content: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Send one request and return the parsed JSON answer, or None for an empty one.

        `429` is tried again after the time it names, up to `max_retries` times. Raises the exception that
        the service's problem names, and BackendUnavailable when there is no answer.
        """
        options: dict[str, Any] = {"params": _given(params)}
        if content is None:
            options |= {"json": json, "files": files}
        else:
            options |= {"content": content, "headers": {"Content-Type": "application/octet-stream"}}
        if timeout_s is not None:
            options["timeout"] = timeout_s
        response = self._answer(method, path, **options)
        return _body(response) if response.content else None

    def file(self, path: str, params: Mapping[str, Any]) -> bytes:
        """Get what is not JSON. Raises as `request`."""
        return self._answer("GET", path, params=_given(params)).content

    def events(self, path: str, silence_s: float) -> Iterator[tuple[str, Any]]:
        """Server-sent events as pairs of name and parsed JSON, until the service ends the stream.

        Raises as `request`, and BackendUnavailable after `silence_s` without a word.
        """
        timeout = httpx2.Timeout(silence_s)
        name = ""
        try:
            with self._http.stream("GET", path, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _error(response)
                for line in response.iter_lines():
                    key, _, value = line.partition(": ")
                    if key == "event":
                        name = value
                    elif key == "data" and name == "error":
                        raise from_problem(orjson.loads(value))
                    elif key == "data":
                        yield name, orjson.loads(value)
        except httpx2.RequestError as exc:
            raise BackendUnavailable(f"lost the connection to {self.url} ({exc}): is it still up?") from exc

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _answer(self, method: str, path: str, **options: Any) -> httpx2.Response:
        retries_left = self._max_retries
        while True:
            response = self._send(method, path, **options)
            if response.is_success:
                return response
            error = _error(response)
            if not isinstance(error, Overloaded) or retries_left == 0:
                raise error
            retries_left -= 1
            time.sleep(min(error.retry_after_s, LONGEST_WAIT_S))

    def _send(self, method: str, path: str, **content: Any) -> httpx2.Response:
        try:
            return self._http.request(method, path, **content)
        except httpx2.TimeoutException as exc:
            raise BackendUnavailable(
                f"{self.url} did not answer within {self._http.timeout.read} s: "
                "give it longer with timeout_s, or send less at once"
            ) from exc
        except httpx2.RequestError as exc:
            raise BackendUnavailable(
                f"cannot reach {self.url} ({exc}): start it with `stochcon serve`, or name another with --url"
            ) from exc


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (params or {}).items() if value is not None}


def _body(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as exc:
        raise BackendUnavailable(
            f"{response.url} did not answer in JSON: is it the address of a StochCon service?"
        ) from exc


def _error(response: httpx2.Response) -> StochConError:
    problem: Any = None
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = _body(response)
    if not isinstance(problem, dict):
        return BackendUnavailable(
            f"{response.url} answered {response.status_code} without a reason: is it a StochCon service?"
        )
    return from_problem(problem, response.headers.get("retry-after"))


def from_problem(problem: Mapping[str, Any], retry_after: str | None = None) -> StochConError:
    """The exception that a problem document stands for; StochConError itself for a type unknown here."""
    slug = str(problem.get("type", "")).removeprefix(PROBLEM_PREFIX)
    detail = str(problem.get("detail") or problem.get("title") or "no reason given")
    kind = ERRORS_BY_SLUG.get(slug, StochConError)
    if kind is Overloaded:
        return Overloaded(detail, _seconds(retry_after))
    return kind(detail)


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 1.0))
    except ValueError:  # The header may also be a date, which our service never sends.
        return 1.0
