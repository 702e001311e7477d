"""The store against a dictionary, and what it says when it cannot do what is asked."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contracts.codes import hamming
from contracts.errors import BackendUnavailable, InvalidItem, InvalidQuery, ModelMismatch, NotFound
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef, SearchResult

MODEL = ModelRef(id="a" * 64, name="tiny", num_bits=16)
IDS = st.sampled_from([f"{letter}{number}" for letter in ("a", "B", "é", "z/") for number in range(8)])
ITEMS = st.builds(
    Item,
    id=IDS,
    code=st.binary(min_size=2, max_size=2),
    label=st.sampled_from([None, "cat", "dog"]),
    metadata=st.fixed_dictionaries({}, optional={"year": st.integers(2020, 2023), "tag": st.just("x")}),
    uri=st.sampled_from([None, "file:///somewhere"]),
)
FILTERS: dict[str, tuple[dict, Callable[[Item], bool]]] = {
    "label": ({"label": "cat"}, lambda item: item.label == "cat"),
    "metadata.year": ({"metadata.year": {"gte": 2022}}, lambda item: item.metadata.get("year", 0) >= 2022),
    "metadata.tag": ({"not": {"metadata.tag": "x"}}, lambda item: item.metadata.get("tag") != "x"),
}


def field_is_there(items: dict[str, Item], field: str) -> bool:
    if field == "label":
        return any(item.label is not None for item in items.values())
    return any(field.removeprefix("metadata.") in item.metadata for item in items.values())


class StoreMachine(RuleBasedStateMachine):
    """Random writes, searches and reopenings, with segments so short that compaction is common."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.path = self.folder / str(len(list(self.folder.iterdir())))
        self.items: dict[str, Item] = {}
        self.store = self.open()
        self.store.create_collection("c", MODEL)

    def open(self) -> EmbeddedStore:
        return EmbeddedStore.open(self.path, num_threads=2, segment_slots=8)

    def teardown(self) -> None:
        assert self.store.verify() == []
        self.store.close()

    @rule(items=st.lists(ITEMS, max_size=12))
    def upsert(self, items: list[Item]) -> None:
        self.store.upsert("c", items, MODEL)
        self.items |= {item.id: item for item in items}

    @rule(item=ITEMS, bad=st.sampled_from([{"id": ""}, {"code": b"123"}, {"metadata": {"a b": 1}}]))
    def upsert_with_a_bad_item(self, item: Item, bad: dict) -> None:
        fields = {"id": "bad", "code": b"12", "metadata": {}} | bad
        with pytest.raises(InvalidItem):
            self.store.upsert("c", [item, Item(**fields)], MODEL)

    @rule(ids=st.lists(IDS | st.just("never\x00there"), max_size=20))
    def delete(self, ids: list[str]) -> None:
        expected = len(set(ids) & self.items.keys())
        assert self.store.delete("c", ids) == expected
        for item_id in ids:
            self.items.pop(item_id, None)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    @rule(
        query=st.binary(min_size=2, max_size=2),
        k=st.sampled_from([1, 3, 1000]),
        radius=st.none() | st.integers(0, 16),
        field=st.sampled_from([None, *FILTERS]),
        labelled_only=st.booleans(),
    )
    def search(
        self, query: bytes, k: int, radius: int | None, field: str | None, labelled_only: bool
    ) -> None:
        where, matches = FILTERS[field] if field else (None, lambda item: True)
        queries = np.frombuffer(query, dtype=np.uint8)[None]
        options = {"k": k, "radius": radius, "where": where, "labelled_only": labelled_only}
        if field and not field_is_there(self.items, field):
            with pytest.raises(InvalidQuery, match=f"'{field}'"):
                self.store.search("c", queries, **options)
            return
        found = [i for i in self.items.values() if matches(i) and (i.label is not None or not labelled_only)]
        self.check(self.store.search("c", queries, **options)[0], queries, found, k, radius)

    def check(
        self, result: SearchResult, query: np.ndarray, items: list[Item], k: int, radius: int | None
    ) -> None:
        ranked = sorted((distance_of(query, item), item.id) for item in items)
        if radius is not None:
            ranked = [pair for pair in ranked if pair[0] <= radius]
        assert result.truncated == (radius is not None and len(ranked) > k)
        assert result.exact
        pairs = [(hit.distance, hit.id) for hit in result.hits]
        assert pairs == sorted(pairs)
        assert [distance for distance, _ in pairs] == [distance for distance, _ in ranked[:k]]
        assert set(pairs) <= set(ranked)
        assert len(set(pairs)) == len(pairs)
        for hit in result.hits:
            item = self.items[hit.id]
            assert (hit.label, hit.metadata, hit.uri) == (item.label, item.metadata, item.uri)

    @rule(ids=st.lists(IDS, max_size=5))
    def get(self, ids: list[str]) -> None:
        assert self.store.get("c", ids) == [self.items.get(item_id) for item_id in ids]

    @rule(after=st.none() | IDS, limit=st.integers(1, 40))
    def list_items(self, after: str | None, limit: int) -> None:
        ids = sorted(self.items, key=str.encode)
        expected = [i for i in ids if after is None or i.encode() > after.encode()][:limit]
        assert self.store.list_items("c", after, limit) == [self.items[i] for i in expected]

    @invariant()
    def counters_agree(self) -> None:
        info = self.store.collection("c")
        assert info.num_items == len(self.items)
        assert info.num_labelled == sum(item.label is not None for item in self.items.values())


def distance_of(query: np.ndarray, item: Item) -> int:
    return int(hamming(query, np.frombuffer(item.code, dtype=np.uint8)[None])[0, 0])


def test_the_store_behaves_like_a_dictionary(tmp_path: Path) -> None:
    machine = type("Machine", (StoreMachine,), {"folder": tmp_path})
    case = machine.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
    case().runTest()


def test_a_collection_is_made_by_its_first_write(
    store: EmbeddedStore, make_items: Callable, model: ModelRef
) -> None:
    with pytest.raises(NotFound, match="'c'"):
        store.collection("c")
    store.upsert("c", make_items(3), model)
    info = store.collection("c")
    assert (info.name, info.model, info.num_items, info.num_labelled) == ("c", model, 3, 0)
    assert store.collections() == [info]


def test_collections_are_listed_by_name_and_apart(
    open_store: Callable, make_items: Callable, model: ModelRef, other_model: ModelRef
) -> None:
    store = open_store()
    store.upsert("b", make_items(2, label="x"), model)
    store.upsert("a", make_items(1), other_model)
    store = open_store()
    assert [(i.name, i.num_items, i.model) for i in store.collections()] == [
        ("a", 1, other_model),
        ("b", 2, model),
    ]


def test_creating_twice_returns_what_is_there(
    store: EmbeddedStore, make_items: Callable, model: ModelRef
) -> None:
    assert store.create_collection("c", model).num_items == 0
    store.upsert("c", make_items(3), model)
    assert store.create_collection("c", model).num_items == 3


def test_codes_of_another_model_are_refused(
    store: EmbeddedStore, make_items: Callable, model: ModelRef, other_model: ModelRef
) -> None:
    store.upsert("c", make_items(1), model)
    for attempt in (
        lambda: store.upsert("c", make_items(2), other_model),
        lambda: store.create_collection("c", other_model),
    ):
        with pytest.raises(ModelMismatch) as caught:
            attempt()
        assert "'tiny'" in str(caught.value)
        assert "'other'" in str(caught.value)
        assert "another collection" in str(caught.value)
    assert store.collection("c").num_items == 1


@pytest.mark.parametrize("name", ["", "..", "a/b", "Cats", "x" * 65])
def test_a_bad_name_makes_no_collection(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef, name: str
) -> None:
    with pytest.raises(InvalidQuery):
        store.create_collection(name, model)
    with pytest.raises(InvalidQuery):
        store.upsert(name, make_items(1), model)
    assert list((tmp_path / "collections").iterdir()) == []


def test_every_call_on_a_missing_collection_says_so(store: EmbeddedStore) -> None:
    query = np.zeros((1, 8), np.uint8)
    for call in (
        lambda: store.collection("missing"),
        lambda: store.model("missing"),
        lambda: store.delete_collection("missing"),
        lambda: store.delete("missing", ["a"]),
        lambda: store.get("missing", ["a"]),
        lambda: store.list_items("missing"),
        lambda: store.search("missing", query),
        lambda: store.rescore("missing", np.zeros(64)),
    ):
        with pytest.raises(NotFound, match="'missing'"):
            call()


def test_a_deleted_collection_frees_its_disk_and_its_name(
    open_store: Callable, tmp_path: Path, make_items: Callable, model: ModelRef, other_model: ModelRef
) -> None:
    store = open_store()
    store.upsert("c", make_items(200), model)
    store.upsert("kept", make_items(2), model)
    store.delete_collection("c")
    assert [path.name for path in (tmp_path / "collections").iterdir()] == ["kept"]
    store.upsert("c", make_items(1), other_model)
    store = open_store()
    assert [(info.name, info.num_items) for info in store.collections()] == [("c", 1), ("kept", 2)]


def test_deleting_a_collection_waits_for_searches_under_way(
    store: EmbeddedStore, make_items: Callable, model: ModelRef
) -> None:
    store.upsert("c", make_items(500), model)
    running = threading.Event()

    def search_until_gone() -> set[int]:
        counts = set()
        while True:
            try:
                counts.add(len(store.search("c", np.zeros((8, 8), np.uint8), k=5)[7].hits))
            except NotFound:
                return counts
            running.set()

    with ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(search_until_gone) for _ in range(3)]
        assert running.wait(10)
        store.delete_collection("c")
        assert set.union(*(search.result() for search in searches)) == {5}


def test_a_collection_being_deleted_is_gone_at_once_and_its_files_after_the_last_call(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    store.upsert("c", make_items(3), model)
    store.upsert("other", make_items(3), model)
    with ThreadPoolExecutor(1) as pool:
        with store._collections["c"].gate.entered():
            deleting = pool.submit(store.delete_collection, "c")
            while store.collections() != [store.collection("other")]:
                pass
            with pytest.raises(BackendUnavailable, match="being deleted"):
                store.upsert("c", make_items(1), model)
            assert not deleting.done()
            assert (tmp_path / "collections" / "c").exists()
        deleting.result()
    assert not (tmp_path / "collections" / "c").exists()
    store.upsert("c", make_items(1), model)
    assert store.collection("c").num_items == 1


def test_a_closed_store_says_so(tmp_path: Path, make_items: Callable, model: ModelRef) -> None:
    store = EmbeddedStore.open(tmp_path)
    store.upsert("c", make_items(1), model)
    store.close()
    store.close()
    for call in (
        store.collections,
        store.verify,
        lambda: store.collection("c"),
        lambda: store.create_collection("d", model),
        lambda: store.delete_collection("c"),
        lambda: store.upsert("c", make_items(1), model),
        lambda: store.delete("c", ["a"]),
        lambda: store.get("c", ["a"]),
        lambda: store.list_items("c"),
        lambda: store.search("c", np.zeros((1, 8), np.uint8)),
        lambda: store.rescore("c", np.zeros(64)),
    ):
        with pytest.raises(BackendUnavailable, match="closed"):
            call()


def test_disk_and_memory_are_what_they_are(
    store: EmbeddedStore, tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    store.upsert("c", make_items(150, label="x", year=2020), model)
    info = store.collection("c")
    files = [path for path in (tmp_path / "collections" / "c").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= info.disk_bytes
    assert info.disk_bytes <= sum(path.stat().st_size + 4096 for path in files) + 3 * 4096
    # Two full segments of 64 slots and one of 22, each with two bitmaps of 64 bits.
    assert info.memory_bytes == 150 * 8 + 3 * 16
    store.search("c", np.zeros((1, 8), np.uint8), where={"label": "x"})
    assert store.collection("c").memory_bytes == 150 * 8 + 3 * 16 + 3 * 8


def test_what_a_crash_left_half_made_is_cleared(tmp_path: Path, model: ModelRef) -> None:
    for name in (".new-1234", ".deleted-5678"):
        (tmp_path / "collections" / name / "segments").mkdir(parents=True)
        (tmp_path / "collections" / name / "catalog.sqlite").write_bytes(b"half")
    with EmbeddedStore.open(tmp_path) as store:
        assert store.collections() == []
    assert list((tmp_path / "collections").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendUnavailable, match="--data"):
        EmbeddedStore.open(tmp_path / "file" / "data")


@pytest.mark.parametrize("segment_slots", [0, -8, 12])
def test_segments_are_whole_bytes_of_bits(tmp_path: Path, segment_slots: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        EmbeddedStore.open(tmp_path, segment_slots=segment_slots)


def test_segments_keep_their_length_when_the_default_changes(
    tmp_path: Path, make_items: Callable, model: ModelRef
) -> None:
    items = make_items(200)
    with EmbeddedStore.open(tmp_path, segment_slots=64) as store:
        store.upsert("c", items, model)
    with EmbeddedStore.open(tmp_path) as store:
        assert store.verify() == []
        store.upsert("c", make_items(200, "more"), model)
        assert store.get("c", [items[0].id]) == [items[0]]
        assert len(store.search("c", np.zeros((1, 8), np.uint8), k=1000)[0].hits) == 400
    assert len(list((tmp_path / "collections" / "c" / "segments").iterdir())) == 400 // 64
