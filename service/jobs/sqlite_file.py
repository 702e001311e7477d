"""The SQLite ledger's file, as many threads and processes write it in turn."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from index.sqlite import connect, translated
from service.jobs import refusals
from service.jobs.sqlite_schema import Sql, prepare

_PATIENCE_S = 20.0
"""How long others may keep the file to themselves. Who writes takes milliseconds, or seconds on a disk that
others keep busy."""

_POLL_MS = 3
"""SQLite asks for the file again after 1 ms, and after 2 ms more. Then it would ask ever more rarely, and
whoever writes time and again would keep others out for good; here it begins anew."""


_REMEDY = "stop the service and its workers, move the file away, and submit its jobs again"


class LedgerFile:
    """A connection that threads use in turn. All see each other's transactions whole."""

    def __init__(self, path: Path) -> None:
        """Open the file, making it if need be. Raises StoreCorrupt, BackendUnavailable."""
        self._path = path
        self._lock = threading.Lock()
        with translated(path, _REMEDY):
            self.connection = connect(path, "rwc")
        try:
            with translated(path, _REMEDY):
                self.connection.execute(f"PRAGMA busy_timeout = {_POLL_MS}")
                self._insist("PRAGMA journal_mode = TRUNCATE")
                self.connection.execute("PRAGMA synchronous = FULL")
            with self.writing() as sql:
                prepare(sql, path)
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[Sql]:
        """A transaction: committed durably when the block ends, undone when it raises."""
        with self._lock, translated(self._path, _REMEDY):
            try:
                # Readers take the same lock: it is held for milliseconds, and nobody has to wait in vain
                # because of a transaction that turned from reading to writing.
                self._insist("BEGIN IMMEDIATE")
            except sqlite3.ProgrammingError as exc:
                raise refusals.closed() from exc
            try:
                yield self.connection.execute
                self._insist("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def _insist(self, statement: str) -> None:
        """Run a statement that may have to wait for other processes."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.connection.execute(statement)
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            else:
                return
