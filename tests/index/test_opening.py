"""Opening a store whose segment files are good, damaged, missing or foreign."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from contracts.codes import hamming
from contracts.errors import StoreCorrupt
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef

QUERY = np.full((1, 8), 0x5A, np.uint8)


@pytest.fixture
def items(make_items: Callable) -> list[Item]:
    return make_items(300, label="x")


@pytest.fixture
def written(open_store: Callable, items: list[Item], model: ModelRef) -> Callable[[], EmbeddedStore]:
    """A closed store of 300 items, 4 segment files, and 20 items deleted after those were written."""
    store = open_store()
    store.upsert("c", items, model)
    store.delete("c", [item.id for item in items[:20]])
    store.close()
    return open_store


def check(store: EmbeddedStore, items: list[Item]) -> None:
    hits = store.search("c", QUERY, k=1000)[0].hits
    expected = {item.id: int(hamming(QUERY, as_code(item))[0, 0]) for item in items}
    assert {hit.id: hit.distance for hit in hits} == expected
    assert len(hits) == len(expected)
    assert store.verify() == []


def as_code(item: Item) -> np.ndarray:
    return np.frombuffer(item.code, dtype=np.uint8)[None]


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "collections" / "c" / "segments").iterdir())


def run_sql(tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / "collections" / "c" / "catalog.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()


def test_sound_files_are_used_and_later_deletes_replayed(
    written: Callable, tmp_path: Path, items: list[Item], caplog: pytest.LogCaptureFixture
) -> None:
    times = [path.stat().st_mtime_ns for path in segments(tmp_path)]
    check(written(), items[20:])
    assert [path.stat().st_mtime_ns for path in segments(tmp_path)] == times
    assert len(times) == 4
    assert caplog.records == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete", "swap", "all", "folder"])
def test_damaged_files_are_rebuilt(
    written: Callable, tmp_path: Path, items: list[Item], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path, other = segments(tmp_path)[1:3]
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:200] + bytes([content[200] ^ 4]) + content[201:])
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "delete":
        path.unlink()
    elif damage == "swap":
        path.write_bytes(other.read_bytes())
    else:
        for one in segments(tmp_path):
            one.unlink()
        if damage == "folder":
            path.parent.rmdir()
    check(written(), items[20:])
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (4 if damage in ("all", "folder") else 1)
    caplog.clear()
    check(written(), items[20:])
    assert caplog.records == []
    assert len(segments(tmp_path)) == 4


def test_a_crash_before_the_rename_leaves_a_part_that_is_cleared(
    written: Callable, tmp_path: Path, items: list[Item]
) -> None:
    path = segments(tmp_path)[0]
    part = path.with_suffix(".part")
    part.write_bytes(path.read_bytes()[:100])
    check(written(), items[20:])
    assert not part.exists()


def test_a_file_without_a_record_does_not_count(written: Callable, tmp_path: Path, items: list[Item]) -> None:
    """As after a crash between the rename and the commit of the record."""
    run_sql(tmp_path, "DELETE FROM segments WHERE number = 2")
    path = segments(tmp_path)[2]
    path.write_bytes(b"whatever")
    check(written(), items[20:])
    assert path not in segments(tmp_path)
    assert len(segments(tmp_path)) == 4


def test_a_file_that_contradicts_the_catalogue_gives_way(
    written: Callable, tmp_path: Path, items: list[Item], caplog: pytest.LogCaptureFixture
) -> None:
    run_sql(tmp_path, "DELETE FROM deaths WHERE slot = 3")
    check(written(), items[20:])
    assert "rebuilding them all" in caplog.text
    caplog.clear()
    check(written(), items[20:])
    assert caplog.records == []


def test_counters_that_contradict_the_items_are_damage(written: Callable, tmp_path: Path) -> None:
    run_sql(tmp_path, "UPDATE state SET num_items = num_items + 1")
    with pytest.raises(StoreCorrupt, match="281 items and has 280"):
        written()


def test_a_catalogue_that_is_no_database_is_damage(written: Callable, tmp_path: Path) -> None:
    catalog = tmp_path / "collections" / "c" / "catalog.sqlite"
    catalog.write_bytes(b"x" * 8192)
    with pytest.raises(StoreCorrupt, match="restore"):
        written()


def test_a_torn_catalogue_is_damage(written: Callable, tmp_path: Path) -> None:
    catalog = tmp_path / "collections" / "c" / "catalog.sqlite"
    catalog.write_bytes(catalog.read_bytes()[: 8192 * 2])
    with pytest.raises(StoreCorrupt, match="restore"):
        written()


@pytest.mark.parametrize(("version", "remedy"), [(3, "upgrade"), (0, "backup made by this version")])
def test_another_schema_version_is_refused_with_the_remedy(
    written: Callable, tmp_path: Path, version: int, remedy: str
) -> None:
    run_sql(tmp_path, f"PRAGMA user_version = {version}")
    with pytest.raises(StoreCorrupt, match=remedy) as caught:
        written()
    assert f"version {version}" in str(caught.value)


def test_another_programs_database_is_refused(written: Callable, tmp_path: Path) -> None:
    run_sql(tmp_path, "PRAGMA application_id = 7")
    with pytest.raises(StoreCorrupt, match="not a catalogue"):
        written()


def test_a_store_that_failed_to_open_is_not_left_locked(written: Callable, tmp_path: Path) -> None:
    run_sql(tmp_path, "PRAGMA user_version = 1")
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            written()
    run_sql(tmp_path, "PRAGMA user_version = 2")
    written()


def test_a_copied_folder_opens(written: Callable, tmp_path: Path, items: list[Item]) -> None:
    collections = tmp_path / "collections"
    (collections / "c").rename(collections / "renamed")
    store = written()
    assert [info.name for info in store.collections()] == ["renamed"]
    assert store.get("renamed", [items[30].id]) == [items[30]]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128])
def test_any_number_of_items_comes_back(
    open_store: Callable, make_items: Callable, model: ModelRef, count: int
) -> None:
    store, items = open_store(), make_items(count)
    store.create_collection("c", model)
    store.upsert("c", items, model)
    store = open_store()
    check(store, items)
    store.upsert("c", make_items(3, "more"), model)
    assert store.collection("c").num_items == count + 3
    assert open_store().verify() == []


def test_a_tail_without_an_item_alive_can_be_appended_to(
    open_store: Callable, make_items: Callable, model: ModelRef
) -> None:
    store, items = open_store(), make_items(70)
    store.upsert("c", items, model)
    store.delete("c", [item.id for item in items[60:]])
    store = open_store()
    more = make_items(5, "more")
    store.upsert("c", more, model)
    check(store, items[:60] + more)
    check(open_store(), items[:60] + more)
