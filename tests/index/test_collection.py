"""Upkeep, failing disks, and many threads at once."""

import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from contracts.codes import hamming
from contracts.errors import BackendUnavailable, InvalidQuery, StoreCorrupt
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef

QUERY = np.zeros((1, 8), np.uint8)


def segment_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "collections" / "c" / "segments").iterdir())


def all_ids(store: EmbeddedStore) -> list[str]:
    return sorted(hit.id for hit in store.search("c", QUERY, k=1000)[0].hits)


def test_full_segments_and_only_they_get_files(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    store.upsert("c", make_items(63), model)
    assert segment_files(tmp_path) == []
    store.upsert("c", make_items(1, "next"), model)
    assert [name[:8] for name in segment_files(tmp_path)] == ["00000000"]
    store.upsert("c", make_items(130, "more"), model)
    assert [name[:8] for name in segment_files(tmp_path)] == ["00000000", "00000001", "00000002"]


def test_rewriting_the_same_items_for_ever_takes_no_more_room(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    for _ in range(60):
        store.upsert("c", make_items(50, label="x", year=1), model)
    info = store.collection("c")
    assert (info.num_items, info.num_labelled) == (50, 50)
    # At worst each segment is just not half dead, beside the one being filled.
    assert info.memory_bytes <= 4 * (64 * 8 + 16)
    assert len(segment_files(tmp_path)) <= 3
    assert all_ids(store) == sorted(f"item{i}" for i in range(50))
    assert store.verify() == []


def test_compaction_keeps_every_item_searchable_across_reopening(
    open_store: Callable, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    store, items = open_store(), make_items(640, label="x")
    store.upsert("c", items, model)
    kept = items[::4]
    gone = [item.id for item in items if item not in kept]
    for start in range(0, len(gone), 40):
        store.delete("c", gone[start : start + 40])
    assert len(segment_files(tmp_path)) < 10
    for _ in range(2):
        assert all_ids(store) == sorted(item.id for item in kept)
        assert store.get("c", [item.id for item in kept]) == kept
        assert store.verify() == []
        store = open_store()


def test_an_emptied_collection_gives_its_memory_back(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    items = make_items(640)
    store.upsert("c", items, model)
    store.delete("c", [item.id for item in items])
    assert store.collection("c").num_items == 0
    assert store.collection("c").memory_bytes == 0
    assert segment_files(tmp_path) == []
    store.upsert("c", items[:3], model)
    assert all_ids(store) == ["item0", "item1", "item2"]


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Makes writes past `num_bytes` of any file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_disk_refuses_leaves_everything_as_it_was(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    items = make_items(40, year=1)
    store.upsert("c", items, model)
    large = make_items(500, "large", text="x" * 8000)
    wal = tmp_path / "collections" / "c" / "catalog.sqlite-wal"
    with file_size_limit(wal.stat().st_size + 20_000), pytest.raises(BackendUnavailable, match="disk"):
        store.upsert("c", large, model)
    assert all_ids(store) == sorted(item.id for item in items)
    assert store.verify() == []
    store.upsert("c", large, model)
    assert len(all_ids(store)) == 540
    assert store.verify() == []


def test_a_segment_file_that_the_disk_refuses_harms_no_write(
    tmp_path: Path, make_items: Callable, model: ModelRef, caplog: pytest.LogCaptureFixture
) -> None:
    items = make_items(2**14)
    with EmbeddedStore.open(tmp_path, segment_slots=2**14) as store:
        segments = tmp_path / "collections" / "c" / "segments"
        store.create_collection("c", model)
        segments.rmdir()
        segments.write_text("in the way")
        store.upsert("c", items, model)
        assert "put off" in caplog.text
        assert len(store.search("c", QUERY, k=1000)[0].hits) == 1000
        segments.unlink()
        segments.mkdir()
        store.upsert("c", make_items(1, "next"), model)
        assert len(list(segments.iterdir())) == 1
        assert store.verify() == []


def test_searches_during_writes_see_each_item_exactly_once(
    store: EmbeddedStore, make_items: Callable, model: ModelRef
) -> None:
    """Items move to new slots all the time, by updates and by compaction; none may be missed or doubled."""
    items = make_items(200, label="x", version=0)
    store.upsert("c", items, model)
    expected = sorted(item.id for item in items)
    codes = {item.id: item.code for item in items}
    done = threading.Event()

    def write() -> None:
        try:
            for version in range(1, 60):
                chosen = [Item(i.id, i.code, "x", {"version": version}) for i in items[version % 5 :: 5]]
                store.upsert("c", chosen, model)
                store.upsert("c", make_items(10, "passing"), model)
                store.delete("c", [f"passing{i}" for i in range(10)])
        finally:
            done.set()

    def search(where: dict | None, labelled_only: bool) -> int:
        count = 0
        while not done.is_set():
            result = store.search("c", QUERY, k=1000, where=where, labelled_only=labelled_only)[0]
            hits = [hit for hit in result.hits if not hit.id.startswith("passing")]
            assert sorted(hit.id for hit in hits) == expected
            assert all(hit.distance == hamming(QUERY, as_code(codes[hit.id])) for hit in hits)
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        writing = pool.submit(write)
        searching = [
            pool.submit(search, None, False),
            pool.submit(search, {"metadata.version": {"gte": 0}}, False),
            pool.submit(search, None, True),
        ]
        writing.result()
        assert all(search.result() > 5 for search in searching)
    assert store.verify() == []


def as_code(code: bytes) -> np.ndarray:
    return np.frombuffer(code, dtype=np.uint8)[None]


def test_a_catalogue_written_by_another_program_is_told_and_not_waited_for(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    store.upsert("c", make_items(3, label="x"), model)
    with closing(sqlite3.connect(tmp_path / "collections" / "c" / "catalog.sqlite")) as connection:
        connection.execute("UPDATE state SET change = 99")
        connection.commit()
    with pytest.raises(StoreCorrupt, match="open the store again"):
        store.search("c", QUERY, where={"label": "x"})


def test_concurrent_writers_lose_nothing(store: EmbeddedStore, make_items: Callable, model: ModelRef) -> None:
    portions = {name: make_items(60, name, label="x") for name in ("a", "b", "c", "d")}

    def write(items: list[Item]) -> None:
        for start in range(0, len(items), 7):
            store.upsert("c", items[start : start + 7], model)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, portions.values()))
    everything = [item for items in portions.values() for item in items]
    assert store.get("c", [item.id for item in everything]) == everything
    assert store.collection("c").num_items == 240
    assert store.verify() == []


def test_an_acknowledged_write_is_found_by_the_next_search(
    store: EmbeddedStore, make_items: Callable, model: ModelRef
) -> None:
    for item in make_items(100, mark="yes"):
        store.upsert("c", [item], model)
        result = store.search("c", as_code(item.code), k=1, where={"metadata.mark": "yes"})[0]
        assert (result.hits[0].id, result.hits[0].distance) == (item.id, 0)
        assert store.delete("c", [item.id]) == 1
        with pytest.raises(InvalidQuery, match="no item"):
            store.search("c", as_code(item.code), k=1, where={"metadata.mark": "yes"})
