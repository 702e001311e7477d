"""A SQLite file of the store: who may write it, who reads it, and what its errors mean.

One writing connection, used by one thread at a time, and read-only connections for everybody else:
SQLite before 3.51.3 can damage a WAL that two connections write or checkpoint at once. `synchronous=FULL`
makes a commit durable before it returns.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import StoreCorrupt
from index.sqlite import connect, prepare_writer, translated

_PAGE_BYTES = 8192  # Holds 18 rows of 2048-bit codes; measured 10 % faster to fill than 4096.
_MAX_WAL_BYTES = 256 * 2**20
_MAX_IDLE_READERS = 8


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is for, and how it is laid out."""

    what: str
    """For messages, such as `a catalogue`."""
    application_id: int
    version: int
    schema: str
    remedy: str
    """What to do about a file that is damaged."""


class Database:
    """An open file. The caller sees to it that those who use `writing` queue."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        """Open the file at `path`. Raises StoreCorrupt, BackendUnavailable."""
        self.path = path
        self._kind = kind
        self._wal_path = path.with_name(f"{path.name}-wal")
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._checkpoint_at = _MAX_WAL_BYTES
        with self._translated():
            self._writer = connect(path, "rw")
            try:
                self._check_version()
                prepare_writer(self._writer)
            except BaseException:
                self._writer.close()
                raise

    @classmethod
    def create(cls, path: Path, kind: FileKind, first_row: str, values: tuple[object, ...] = ()) -> None:
        """Make a file at `path`, durably, and execute `first_row` in it. Raises BackendUnavailable."""
        with translated(path, kind.remedy):
            connection = connect(path, "rwc")
            try:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                prepare_writer(connection)
                connection.executescript(
                    f"BEGIN; {kind.schema} PRAGMA application_id = {kind.application_id};"
                    f"PRAGMA user_version = {kind.version};"
                )
                connection.execute(first_row, values)
                connection.execute("COMMIT")
            finally:
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read in it is of one moment. Keep it short, or the WAL grows."""
        with self._translated():
            with self._idle_lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = connect(self.path, "ro")
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()  # Whatever went wrong, the next reader starts afresh.
                raise
            with self._idle_lock:
                if len(self._idle) < _MAX_IDLE_READERS:
                    self._idle.append(connection)
                    return
            connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed durably when the block ends, undone when it raises."""
        with self._translated():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def limit_wal(self) -> None:
        """Empty the WAL if it is far larger than it should be. Call with no transaction of this thread open.

        SQLite checkpoints by itself, but never waits for readers, so readers that overlap without
        end would let the WAL grow without end.
        """
        with self._translated():
            size = self._wal_path.stat().st_size
            if size < self._checkpoint_at:
                return
            busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            # After waiting in vain, wait until it has grown as much once more.
            self._checkpoint_at = size + _MAX_WAL_BYTES if busy else _MAX_WAL_BYTES

    def close(self) -> None:
        """Close every connection; the last one moves the WAL into the main file. No reader may be active."""
        with self._translated():
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            self._writer.close()

    def _check_version(self) -> None:
        application_id = self._writer.execute("PRAGMA application_id").fetchone()[0]
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if application_id != self._kind.application_id:
            raise StoreCorrupt(f"{self.path} is not {self._kind.what} of StochCon: {self._kind.remedy}")
        if version != self._kind.version:
            remedy = (
                "upgrade StochCon"
                if version > self._kind.version
                else "restore a backup made by this version"
            )
            raise StoreCorrupt(
                f"{self.path} has schema version {version} and this StochCon reads {self._kind.version}: "
                f"{remedy}, or index the images again in another --data folder"
            )

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self.path, self._kind.remedy)
