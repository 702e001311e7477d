"""Each kind of damage to a store that opens is told."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from index.embedded import EmbeddedStore
from index.protocol import ModelRef


@pytest.fixture
def store(open_store: Callable, make_items: Callable, model: ModelRef) -> EmbeddedStore:
    store = open_store()
    store.upsert("c", make_items(150, label="x", year=2020), model)
    assert store.verify() == []
    return store


def run_sql(tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / "collections" / "c" / "catalog.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE state SET num_items = 7", "counter of items says 7 and there are 150"),
        ("UPDATE state SET num_labelled = 7", "counter of labelled items says 7"),
        ("UPDATE state SET next_slot = 100", "slot 149 is in use"),
        ("UPDATE state SET change = 99", "another change"),
        ("UPDATE fields SET num_items = 1 WHERE name = 'label'", "wrong for label"),
        ("DELETE FROM fields WHERE name = 'metadata.year'", "wrong for metadata.year"),
        ("INSERT INTO fields VALUES ('metadata.ghost', 1)", "wrong for metadata.ghost"),
        ("UPDATE items SET code = zeroblob(8) WHERE slot = 5", "segment 0 in memory differs"),
        ("UPDATE items SET code = zeroblob(8) WHERE slot = 5", "segment 0 in its file differs"),
        ("UPDATE items SET code = zeroblob(7) WHERE slot = 5", "not 8 bytes long"),
        ("UPDATE items SET label = NULL WHERE slot = 149", "segment 2 in memory differs"),
        ("INSERT INTO deaths VALUES (5)", "segment 0 in its file differs"),
        ("UPDATE segments SET checksum = checksum + 1 WHERE number = 1", "header of another file"),
        ("UPDATE items SET slot = 500 WHERE slot = 0", "segment 7 is not searched"),
    ],
)
def test_a_catalogue_changed_behind_the_store_is_told(
    store: EmbeddedStore, tmp_path: Path, statement: str, fault: str
) -> None:
    run_sql(tmp_path, statement)
    faults = store.verify()
    assert any(fault in line for line in faults), faults
    assert all(line.startswith("collection c: ") for line in faults)


def test_a_damaged_segment_file_is_told(store: EmbeddedStore, tmp_path: Path) -> None:
    path = min((tmp_path / "collections" / "c" / "segments").iterdir())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    [fault] = store.verify()
    assert "checksum" in fault
    assert "open the store again" in fault


def test_a_damaged_page_is_told(open_store: Callable, store: EmbeddedStore, tmp_path: Path) -> None:
    store.close()
    path = tmp_path / "collections" / "c" / "catalog.sqlite"
    content = bytearray(path.read_bytes())
    at = content.index(b"item77")  # First in the index of ids, or in the table: both break.
    content[at : at + 6] = b"mangle"
    path.write_bytes(content)
    assert open_store().verify() != []
