"""Redis connections as the ledger uses them, and Redis' errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from contracts.errors import BackendUnavailable

_TIMEOUT_S = 10.0
"""How long an answer may take; the slowest are those that wait for the server's disk."""

_UNAVAILABLE = {
    AuthenticationError: "check the name and the password in the URL",
    NoPermissionError: "let its user run scripts, and every command on keys `stochcon:*`",
    BusyLoadingError: "it has just started, and will soon answer",
    ConnectionError: "check that the server runs, and the URL",
    TimeoutError: "check that the server runs, and is not busy with something else",
}
"""The first that fits."""

_REFUSED = {
    "OOM": "it is full: let it have more memory (`maxmemory`)",
    "MISCONF": "it cannot write to its disk: free some space, and see its log",
    "READONLY": "it is a replica: name the primary in the URL",
    "NOREPLICAS": "it has fewer replicas than it is told to need (`min-replicas-to-write`)",
    "BUSY": "it is busy with a script of somebody else's: end that with SCRIPT KILL",
}
"""By how the server begins its answer, which from within a script may stand further on."""

_log = structlog.get_logger("service")


def connect(url: str) -> Redis:
    """A client that connects when it is first used. Raises ValueError for a URL that is none of Redis."""
    try:
        # Nothing is sent twice by itself: a script whose answer was lost may have run.
        client: Redis = Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        )
    except ValueError:
        # Its message may quote a part of the password, where a `/` in that makes the URL another one.
        raise ValueError(
            "the URL of Redis must be redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// with the "
            "same, or unix:///PATH; write a `/` or `@` of the password as %2F or %40"
        ) from None
    return client


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise Redis' errors as BackendUnavailable. Others mean that the code here is wrong, and pass."""
    try:
        yield
    except RedisError as exc:
        remedy = _remedy(exc)
        if remedy is None:
            raise
        answer = str(exc).rstrip(".")
        raise BackendUnavailable(
            f"the ledger of jobs in Redis at {without_password(url)} could not be used ({answer}): {remedy}"
        ) from exc


def _remedy(exc: RedisError) -> str | None:
    for kind, remedy in _UNAVAILABLE.items():
        if isinstance(exc, kind):
            return remedy
    answer = f"{exc.status_code or ''} {exc}".replace("-", " ").split()
    return next((remedy for code, remedy in _REFUSED.items() if code in answer), None)


def warn_unless_durable(client: Redis, url: str) -> None:
    """Say in the log how the server may lose what it has confirmed, as far as it tells."""
    shown = without_password(url)
    try:
        config = client.config_get("append*") | client.config_get("maxmemory*")
    except ResponseError:  # Who runs Redis for others often forbids it.
        _log.info("Redis does not say whether it keeps every write", url=shown)
        return
    if (config.get("appendonly"), config.get("appendfsync")) != ("yes", "always"):
        _log.warning(
            "Redis may lose the latest changes of jobs when it dies",
            url=shown,
            appendonly=config.get("appendonly"),
            appendfsync=config.get("appendfsync"),
            remedy="set appendonly yes and appendfsync always",
        )
    policy = str(config.get("maxmemory-policy"))
    if config.get("maxmemory") != "0" and policy.startswith("allkeys"):
        _log.warning(
            "Redis may drop jobs when its memory is full",
            url=shown,
            maxmemory_policy=policy,
            remedy="set maxmemory-policy noeviction",
        )
