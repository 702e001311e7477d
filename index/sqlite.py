"""SQLite connections as the store uses them, and its errors as ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from contracts.errors import BackendUnavailable, StoreCorrupt

_BUSY_TIMEOUT_S = 5.0
_CACHE_KIB = 16 * 1024
_MAX_IDLE_WAL_BYTES = 64 * 2**20  # What a large write leaves of its WAL.
_CHECKPOINT_PAGES = 4096  # 32 MiB of WAL: with SQLite's own 1000 a bulk load is 15 % slower.

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "another program has it locked: close that program",
    sqlite3.SQLITE_LOCKED: "another program has it locked: close that program",
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write: check it, and that it is not full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that it is there, and its permissions",
    sqlite3.SQLITE_READONLY: "it cannot be written: check its permissions",
    sqlite3.SQLITE_PERM: "access was refused: check its permissions",
    sqlite3.SQLITE_AUTH: "access was refused: check its permissions",
    sqlite3.SQLITE_NOMEM: "there is no memory left: stop other programs",
}


def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """Open a connection in autocommit, for any one thread at a time."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_TIMEOUT_S,
    )
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def prepare_writer(connection: sqlite3.Connection) -> None:
    """WAL and durable commits."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_MAX_IDLE_WAL_BYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")


@contextmanager
def translated(path: Path, remedy: str) -> Iterator[None]:
    """Raise SQLite's errors about the file at `path` as StoreCorrupt, with the remedy, or BackendUnavailable.

    Others mean that the code here is wrong, and pass as they are.
    """
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _DAMAGED:
            raise StoreCorrupt(f"{path} is damaged ({exc}): {remedy}") from exc
        if code in _UNAVAILABLE:
            raise BackendUnavailable(f"{path} could not be used ({exc}): {_UNAVAILABLE[code]}") from exc
        raise
