"""The SQLite file of one collection: the truth about its items.

Every row has a slot. Slots only grow, and a slot's row never changes: it is there or gone. An update
is a new row in a new slot, so whoever finds a slot in memory and its row here has a matching pair.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.codes import num_bytes
from index.database import Database, FileKind
from index.protocol import ModelRef
from index.segments import Layout
from index.transactions import Reader, Writer

_SCHEMA = """
CREATE TABLE items (
    slot INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    code BLOB NOT NULL,
    label TEXT,
    metadata TEXT NOT NULL,
    uri TEXT,
    original INTEGER  -- Its key in `index.originals`.
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
KIND = FileKind(
    "a catalogue",
    application_id=0x53744331,  # "StC1"
    version=2,
    schema=_SCHEMA,
    remedy="restore its folder from a backup, or move it away and index again",
)


class Catalog:
    """An open catalogue. The caller sees to it that those who use `writing` queue."""

    def __init__(self, path: Path) -> None:
        """Open the catalogue at `path`. Raises StoreCorrupt, BackendUnavailable."""
        self.database = Database(path, KIND)
        try:
            with self.database.reading() as connection:
                row = connection.execute(
                    "SELECT collection_id, model_id, model_name, num_bits, provider, segment_slots FROM state"
                ).fetchone()
        except BaseException:
            self.database.close()
            raise
        self.collection_id: bytes = row[0]
        self.model = ModelRef(*row[1:5])
        self.layout = Layout(num_bytes(self.model.num_bits), row[5])

    @classmethod
    def create(cls, path: Path, model: ModelRef, segment_slots: int) -> None:
        """Make an empty catalogue at `path`, durably. Raises BackendUnavailable."""
        state = (os.urandom(16), model.id, model.name, model.num_bits, model.provider, segment_slots)
        Database.create(path, KIND, "INSERT INTO state VALUES (1, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)", state)

    @property
    def path(self) -> Path:
        return self.database.path

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A read transaction; see `Database.reading`."""
        with self.database.reading() as connection:
            yield Reader(connection)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """A write transaction; see `Database.writing`."""
        with self.database.writing() as connection:
            yield Writer(connection)

    def close(self) -> None:
        """Close every connection; no reader may be active."""
        self.database.close()
