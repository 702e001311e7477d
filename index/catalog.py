"""The SQLite file of one collection: the truth about its items.

One writing connection, used under the collection's lock, and read-only connections for everybody else:
SQLite before 3.51.3 can damage a WAL that two connections write or checkpoint at once. `synchronous=FULL`
makes a commit durable before it returns.

Every row has a slot. Slots only grow, and a slot's row never changes: it is there or gone. An update
is a new row in a new slot, so whoever finds a slot in memory and its row here has a matching pair.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from contracts.codes import num_bytes
from contracts.errors import StoreCorrupt
from index.protocol import ModelRef
from index.segments import Layout
from index.sqlite import connect, prepare_writer, translated
from index.transactions import Reader, Writer

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x53744331  # "StC1"
_SCHEMA = """
CREATE TABLE items (
    slot INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    code BLOB NOT NULL,
    label TEXT,
    metadata TEXT NOT NULL,
    uri TEXT
) STRICT;
-- Covers label filters; partial, since label IS NULL matches most of an unlabelled collection.
CREATE INDEX items_label ON items (label, slot) WHERE label IS NOT NULL;
-- Slots that died after their segment's file was written.
CREATE TABLE deaths (slot INTEGER PRIMARY KEY) STRICT;
-- The segment files that count: any other file is left over from a crash.
CREATE TABLE segments (number INTEGER PRIMARY KEY, change INTEGER NOT NULL, checksum INTEGER NOT NULL) STRICT;
-- How many items have each field of a filter.
CREATE TABLE fields (name TEXT PRIMARY KEY, num_items INTEGER NOT NULL CHECK (num_items >= 0))
    STRICT, WITHOUT ROWID;
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    collection_id BLOB NOT NULL,
    model_id TEXT NOT NULL,
    model_name TEXT NOT NULL,
    num_bits INTEGER NOT NULL,
    provider TEXT NOT NULL,
    segment_slots INTEGER NOT NULL,
    change INTEGER NOT NULL,
    next_slot INTEGER NOT NULL,
    num_items INTEGER NOT NULL,
    num_labelled INTEGER NOT NULL
) STRICT;
"""
_PAGE_BYTES = 8192  # Holds 18 rows of 2048-bit codes; measured 10 % faster to fill than 4096.
_MAX_WAL_BYTES = 256 * 2**20
_MAX_IDLE_READERS = 8


class Catalog:
    """An open catalogue. The caller sees to it that those who use `writing` queue."""

    def __init__(self, path: Path) -> None:
        """Open the catalogue at `path`. Raises StoreCorrupt, BackendUnavailable."""
        self.path = path
        self._wal_path = path.with_name(f"{path.name}-wal")
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._checkpoint_at = _MAX_WAL_BYTES
        with self._translated():
            self._writer = connect(path, "rw")
            try:
                self._check_version()
                prepare_writer(self._writer)
                row = self._writer.execute(
                    "SELECT collection_id, model_id, model_name, num_bits, provider, segment_slots FROM state"
                ).fetchone()
            except BaseException:
                self._writer.close()
                raise
        self.collection_id: bytes = row[0]
        self.model = ModelRef(*row[1:5])
        self.layout = Layout(num_bytes(self.model.num_bits), row[5])

    @classmethod
    def create(cls, path: Path, model: ModelRef, segment_slots: int) -> None:
        """Make an empty catalogue at `path`, durably. Raises BackendUnavailable."""
        with translated(path):
            connection = connect(path, "rwc")
            try:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                prepare_writer(connection)
                connection.executescript(
                    f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID};"
                    f"PRAGMA user_version = {SCHEMA_VERSION};"
                )
                connection.execute(
                    "INSERT INTO state VALUES (1, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)",
                    (os.urandom(16), model.id, model.name, model.num_bits, model.provider, segment_slots),
                )
                connection.execute("COMMIT")
            finally:
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A read transaction: everything read in it is of one moment. Keep it short, or the WAL grows."""
        with self._translated():
            with self._idle_lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = connect(self.path, "ro")
            try:
                connection.execute("BEGIN")
                yield Reader(connection)
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
    def writing(self) -> Iterator[Writer]:
        """A write transaction: committed durably when the block ends, undone when it raises."""
        with self._translated():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield Writer(self._writer)
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
        if application_id != _APPLICATION_ID:
            raise StoreCorrupt(
                f"{self.path} is not a catalogue of StochCon: restore its folder from a backup, "
                "or move it away"
            )
        if version != SCHEMA_VERSION:
            remedy = (
                "upgrade StochCon" if version > SCHEMA_VERSION else "restore a backup made by this version"
            )
            raise StoreCorrupt(
                f"{self.path} has schema version {version} and this StochCon reads {SCHEMA_VERSION}: "
                f"{remedy}, or index the images again in another --data folder"
            )

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self.path)
