"""What is asked of a catalogue, and changed in it, inside one transaction.

The tables are those of `index.catalog`. A `Reader` sees the catalogue at one moment; a `Writer` sees its
own changes, which nobody else does before they are committed.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from contracts.codes import Codes
from contracts.errors import StoreCorrupt
from index.filters import Condition
from index.items import Row, to_metadata
from index.protocol import Item
from index.segments import Flags, Slots

Payload = tuple[str, str | None, str, str | None]
"""id, label, metadata as JSON, uri."""

_ITEM = "id, code, label, metadata, uri, original"  # As in `index.items.Row`.
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
            f"SELECT {_ITEM} FROM items WHERE id IN (SELECT value FROM json_each(?))",
            (_json(ids),),
        )
        return {row[0]: _to_item(row) for row in rows}

    def page(self, after: str | None, limit: int) -> list[Item]:
        """Up to `limit` items by the UTF-8 bytes of their ids, above `after`."""
        rows = self._connection.execute(
            f"SELECT {_ITEM} FROM items WHERE id > ? ORDER BY id LIMIT ?",
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

    def originals(self) -> set[int]:
        """Keys of all originals that items have."""
        rows = self._connection.execute("SELECT original FROM items WHERE original IS NOT NULL")
        return {key for (key,) in rows}

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
            f"INSERT INTO items (slot, {_ITEM}) VALUES (?, ?, ?, ?, ?, ?, ?)",
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


def _to_item(row: Row) -> Item:
    item_id, code, label, metadata, uri, original = row
    return Item(item_id, code, label, to_metadata(metadata), uri, original)
