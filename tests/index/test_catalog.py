import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable, StoreCorrupt
from index.catalog import Catalog
from index.embedded import EmbeddedStore
from index.filters import compile_filter
from index.items import to_row
from index.protocol import Item, ModelRef
from index.sqlite import translated
from index.transactions import State


@pytest.fixture
def catalog(tmp_path: Path, model: ModelRef) -> Iterator[Catalog]:
    Catalog.create(tmp_path / "catalog.sqlite", model, segment_slots=64)
    catalog = Catalog(tmp_path / "catalog.sqlite")
    yield catalog
    catalog.close()


def insert(catalog: Catalog, first_slot: int, items: list[Item]) -> None:
    counts = {"label": len(items)}
    with catalog.writing() as writer:
        before = writer.state()
        writer.insert(first_slot, [to_row(item, 8) for item in items], counts)
        count = before.num_items + len(items)
        writer.set_state(State(before.change + 1, first_slot + len(items), count, count))


def test_the_model_and_layout_come_back(catalog: Catalog, model: ModelRef) -> None:
    assert catalog.model == model
    assert (catalog.layout.code_bytes, catalog.layout.segment_slots) == (8, 64)
    assert len(catalog.collection_id) == 16


def test_commits_are_durable_and_logged_ahead(catalog: Catalog) -> None:
    with catalog.writing():
        pass
    assert catalog.database._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert catalog.database._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_reader_stays_in_its_moment(catalog: Catalog, make_items: Callable) -> None:
    with catalog.reading() as before:
        assert before.state().num_items == 0
        insert(catalog, 0, make_items(5, label="x"))
        assert before.state().num_items == 0
        assert before.page(None, 10) == []
        with catalog.reading() as after:
            assert after.state() == State(1, 5, 5, 5)
            assert len(after.page(None, 10)) == 5
            assert after.check() == []


def test_a_reader_cannot_write(catalog: Catalog) -> None:
    with pytest.raises(BackendUnavailable, match="readonly"), catalog.reading() as reader:
        reader._connection.execute("DELETE FROM items")


def test_a_write_that_raises_is_undone(catalog: Catalog, make_items: Callable) -> None:
    items = make_items(3, label="x")
    with pytest.raises(sqlite3.IntegrityError):
        insert(catalog, 0, [*items, items[0]])
    with catalog.reading() as reader:
        assert reader.page(None, 10) == []
    insert(catalog, 0, items)


def test_a_scan_in_parts_finds_what_one_scan_finds(
    catalog: Catalog, make_items: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = make_items(50, "a", label="x") + make_items(50, "b", label="y") + make_items(50, "c", label="x")
    insert(catalog, 7, items)
    monkeypatch.setattr("index.transactions._SCAN_SLOTS", 13)
    with catalog.reading() as reader:
        found = reader.matching_slots(compile_filter({"label": "x"}), 0, 157)
        assert sorted(found) == [*range(7, 57), *range(107, 157)]
        found = reader.matching_slots(compile_filter({"or": [{"label": "x"}, {"label": "y"}]}), 50, 60)
        assert sorted(found) == list(range(50, 60))
        assert len(reader.matching_slots(compile_filter({"label": "z"}), 0, 157)) == 0


def test_a_label_filter_reads_the_index_alone(catalog: Catalog) -> None:
    condition = compile_filter({"label": {"in": ["x", "y"]}})
    with catalog.reading() as reader:
        plan = reader._connection.execute(
            f"EXPLAIN QUERY PLAN SELECT group_concat(slot) FROM items WHERE ({condition.sql}) "
            "AND slot >= 0 AND slot < 1000000",
            condition.params,
        ).fetchall()
    assert "USING COVERING INDEX items_label (label=?" in plan[0][3]


def test_readers_that_overlap_without_end_do_not_let_the_wal_grow_without_end(
    store: EmbeddedStore, make_items: Callable, model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.database._MAX_WAL_BYTES", 2**18)
    store.create_collection("c", model)
    catalog = store._collections["c"].catalog
    for _ in range(30):
        store.upsert("c", make_items(40, text="x" * 1000), model)
        assert catalog.database._wal_path.stat().st_size < 2**19


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_FULL, BackendUnavailable),
        (sqlite3.SQLITE_IOERR_WRITE, BackendUnavailable),
        (sqlite3.SQLITE_CANTOPEN, BackendUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, BackendUnavailable),
        (sqlite3.SQLITE_CORRUPT, StoreCorrupt),
        (sqlite3.SQLITE_NOTADB, StoreCorrupt),
        (sqlite3.SQLITE_ERROR, sqlite3.OperationalError),
    ],
)
def test_errors_of_sqlite_become_ours(code: int, error: type[Exception]) -> None:
    original = sqlite3.OperationalError("it said so")
    original.sqlite_errorcode = code
    with pytest.raises(error, match="it said so"), translated(Path("catalog.sqlite"), "restore it"):
        raise original


def test_a_missing_file_is_unavailable_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="cannot be opened"):
        Catalog(tmp_path / "missing.sqlite")
    assert list(tmp_path.iterdir()) == []
