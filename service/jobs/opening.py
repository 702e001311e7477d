"""Where the ledger of jobs is kept."""

from pathlib import Path

from service.jobs.ledger import Ledger
from service.jobs.sqlite_ledger import SqliteLedger

LEDGER_NAME = "jobs.sqlite"


def open_ledger(data: Path, redis_url: str | None) -> Ledger:
    """The ledger in Redis, or, without a URL, in the data folder.

    Raises BackendUnavailable, StoreCorrupt, and ValueError for a URL that is none of Redis or without the
    package `redis`.
    """
    if redis_url is None:
        return SqliteLedger(data / LEDGER_NAME)
    try:
        from service.jobs.redis_ledger import RedisLedger
    except ModuleNotFoundError as exc:
        if exc.name != "redis":
            raise
        raise ValueError(
            "jobs are to be kept in Redis, and the package for that is missing: pip install 'stochcon[redis]'"
        ) from exc
    return RedisLedger(redis_url)
