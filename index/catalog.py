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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from contracts.codes import Codes, num_bytes
from contracts.errors import StoreCorrupt
from index.filters import Condition
from index.items import Row, to_metadata
from index.protocol import Item, ModelRef
from index.segments import Flags, Layout, Slots
from index.sqlite import connect, prepare_writer, translated

Payload = tuple[str, str | None, str, str | None]
"""id, label, metadata as JSON, uri."""

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
_SCAN_SLOTS = 2**22  # Slots of one filter scan: keeps the text of its answer well under SQLite's limit.


@dataclass(frozen=True, slots=True)
class State:
    """The counters that every write advances with its rows."""

    change: int
    next_slot: int
    num_items: int
    num_labelled: int


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A segment file as the catalogue knows it."""

    number: int
    change: int
    checksum: int


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
    def reading(self) -> Iterator["Reader"]:
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
    def writing(self) -> Iterator["Writer"]:
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


class Reader:
    """Queries inside one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def state(self) -> State:
        """The counters."""
        return State(
            *self._connection.execute(
                "SELECT change, next_slot, num_items, num_labelled FROM state"
            ).fetchone()
        )

    def has_field(self, name: str) -> bool:
        """Whether an item has the field `label` or `metadata.<key>`."""
        found = self._connection.execute("SELECT 1 FROM fields WHERE name = ?", (name,)).fetchone()
        return found is not None

    def matching_slots(self, condition: Condition, first_slot: int, end_slot: int) -> Slots:
        """Slots in [first_slot, end_slot) whose items meet the condition, in any order: int64 [n]."""
        found = [np.empty(0, dtype=np.int64)]
        for start in range(first_slot, end_slot, _SCAN_SLOTS):
            # Joined into one text by SQLite and split by numpy: a third of the time of a row each.
            (text,) = self._connection.execute(
                f"SELECT group_concat(slot) FROM items WHERE ({condition.sql}) AND slot >= ? AND slot < ?",
                (*condition.params, start, min(start + _SCAN_SLOTS, end_slot)),
            ).fetchone()
            if text is not None:
                found.append(np.fromstring(text, dtype=np.int64, sep=","))
        return np.concatenate(found)

    def payloads(self, slots: Iterable[int]) -> dict[int, Payload]:
        """Payloads by slot, without the slots that are gone."""
        rows = self._connection.execute(
            "SELECT slot, id, label, metadata, uri FROM items WHERE slot IN (SELECT value FROM json_each(?))",
            (_json(list(slots)),),
        )
        return {slot: (item_id, label, metadata, uri) for slot, item_id, label, metadata, uri in rows}

    def items(self, ids: Sequence[str]) -> dict[str, Item]:
        """Those of `ids` that are there."""
        rows = self._connection.execute(
            "SELECT id, code, label, metadata, uri FROM items WHERE id IN (SELECT value FROM json_each(?))",
            (_json(ids),),
        )
        return {row[0]: _to_item(row) for row in rows}

    def page(self, after: str | None, limit: int) -> list[Item]:
        """Up to `limit` items by the UTF-8 bytes of their ids, above `after`."""
        rows = self._connection.execute(
            "SELECT id, code, label, metadata, uri FROM items WHERE id > ? ORDER BY id LIMIT ?",
            (after or "", limit),
        )
        return [_to_item(row) for row in rows]

    def codes(self, first_slot: int, end_slot: int, code_bytes: int) -> tuple[Slots, Codes, Flags]:
        """Slots, codes and whether labelled, of the rows in [first_slot, end_slot), by slot."""
        rows = self._connection.execute(
            "SELECT slot, code, label IS NOT NULL FROM items WHERE slot >= ? AND slot < ? ORDER BY slot",
            (first_slot, end_slot),
        ).fetchall()
        slots = np.array([row[0] for row in rows], dtype=np.int64)
        labelled = np.array([row[2] for row in rows], dtype=np.bool_)
        joined = b"".join([row[1] for row in rows])
        if len(joined) != len(rows) * code_bytes:
            raise StoreCorrupt(
                f"codes in slots {first_slot} to {end_slot - 1} are not {code_bytes} bytes long: "
                "restore a backup"
            )
        return slots, np.frombuffer(joined, dtype=np.uint8).reshape(-1, code_bytes), labelled

    def next_occupied(self, slot: int) -> int | None:
        """The first slot from `slot` on that has a row."""
        found: int | None = self._connection.execute(
            "SELECT min(slot) FROM items WHERE slot >= ?", (slot,)
        ).fetchone()[0]
        return found

    def deaths(self) -> Slots:
        """Slots that died after their segment's file was written: int64 [n], ascending."""
        rows = self._connection.execute("SELECT slot FROM deaths ORDER BY slot").fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1)

    def segments(self) -> list[SegmentRecord]:
        """The segment files that count."""
        rows = self._connection.execute("SELECT number, change, checksum FROM segments ORDER BY number")
        return [SegmentRecord(*row) for row in rows]

    def check(self) -> list[str]:
        """Faults of the file itself and of its counters, a line each."""
        faults = [row[0] for row in self._connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        state = self.state()
        count = self._connection.execute("SELECT count(*), count(label), max(slot) FROM items").fetchone()
        for what, counted, kept in (
            ("items", count[0], state.num_items),
            ("labelled items", count[1], state.num_labelled),
        ):
            if counted != kept:
                faults.append(f"the counter of {what} says {kept} and there are {counted}")
        if count[2] is not None and count[2] >= state.next_slot:
            faults.append(f"slot {count[2]} is in use and the next free slot is said to be {state.next_slot}")
        counted_fields = dict(self._connection.execute(_COUNT_FIELDS).fetchall())
        kept_fields = dict(self._connection.execute("SELECT name, num_items FROM fields").fetchall())
        if counted_fields != kept_fields:
            wrong = sorted(name for name, _ in counted_fields.items() ^ kept_fields.items())
            faults.append(f"the field counters are wrong for {', '.join(wrong)}")
        return faults


_COUNT_FIELDS = """
SELECT 'metadata.' || key, count(*) FROM items, json_each(items.metadata) GROUP BY key
UNION ALL SELECT 'label', count(*) FROM items WHERE label IS NOT NULL HAVING count(*) > 0
"""


class Writer(Reader):
    """Changes inside one transaction. Nothing is visible to readers before it is committed."""

    def slots_of(self, ids: Sequence[str]) -> Slots:
        """Slots of those of `ids` that are there: int64 [n], ascending."""
        rows = self._connection.execute(
            "SELECT slot FROM items WHERE id IN (SELECT value FROM json_each(?)) ORDER BY slot", (_json(ids),)
        ).fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1)

    def insert(self, first_slot: int, rows: Sequence[Row], num_with_field: Mapping[str, int]) -> None:
        """Insert `rows` into the slots from `first_slot` on; `num_with_field` counts them by field.

        Their ids must not be there.
        """
        self._connection.executemany(
            "INSERT INTO items (slot, id, code, label, metadata, uri) VALUES (?, ?, ?, ?, ?, ?)",
            [(slot, *row) for slot, row in enumerate(rows, first_slot)],
        )
        self._connection.executemany(
            "INSERT INTO fields VALUES (?, ?) "
            "ON CONFLICT DO UPDATE SET num_items = num_items + excluded.num_items",
            num_with_field.items(),
        )

    def remove(self, slots: Slots) -> int:
        """Delete the rows in `slots`, and return how many of them were labelled."""
        if not len(slots):
            return 0
        chosen = "slot IN (SELECT value FROM json_each(?))"
        text = _json(slots.tolist())
        (labelled,) = self._connection.execute(
            f"SELECT count(label) FROM items WHERE {chosen}", (text,)
        ).fetchone()
        gone = self._connection.execute(
            "SELECT 'metadata.' || key, count(*) FROM items, json_each(items.metadata) "
            f"WHERE {chosen} GROUP BY key",
            (text,),
        ).fetchall()
        self._connection.executemany(
            "UPDATE fields SET num_items = num_items - ?2 WHERE name = ?1", [*gone, ("label", labelled)]
        )
        self._connection.execute("DELETE FROM fields WHERE num_items = 0")
        self._connection.execute(f"DELETE FROM items WHERE {chosen}", (text,))
        self._connection.execute("INSERT INTO deaths SELECT value FROM json_each(?)", (text,))
        return int(labelled)

    def move(self, slots: Slots, first_slot: int) -> None:
        """Move the rows in `slots` to the slots from `first_slot` on."""
        targets = range(first_slot, first_slot + len(slots))
        self._connection.executemany(
            "UPDATE items SET slot = ? WHERE slot = ?", zip(targets, slots.tolist(), strict=True)
        )

    def record_segment(self, record: SegmentRecord, first_slot: int, end_slot: int) -> None:
        """Make a file that holds the slots [first_slot, end_slot) as they are now the one that counts."""
        self._connection.execute(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?)",
            (record.number, record.change, record.checksum),
        )
        self._forget_deaths(first_slot, end_slot)

    def forget_segment(self, number: int, first_slot: int, end_slot: int) -> None:
        """Forget the file of a segment, and which of its slots died: no row is left in it."""
        self._connection.execute("DELETE FROM segments WHERE number = ?", (number,))
        self._forget_deaths(first_slot, end_slot)

    def set_state(self, state: State) -> None:
        """Write the counters."""
        self._connection.execute(
            "UPDATE state SET change = ?, next_slot = ?, num_items = ?, num_labelled = ?",
            (state.change, state.next_slot, state.num_items, state.num_labelled),
        )

    def _forget_deaths(self, first_slot: int, end_slot: int) -> None:
        self._connection.execute("DELETE FROM deaths WHERE slot >= ? AND slot < ?", (first_slot, end_slot))


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode()


def _to_item(row: tuple[str, bytes, str | None, str, str | None]) -> Item:
    item_id, code, label, metadata, uri = row
    return Item(item_id, code, label, to_metadata(metadata), uri)
