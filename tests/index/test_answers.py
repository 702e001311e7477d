import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.codes import hamming, pack_logits
from contracts.errors import InvalidQuery
from index.answers import nearest
from index.embedded import EmbeddedStore
from index.filters import compile_filter
from index.posterior import Posterior
from index.protocol import Item, ModelRef
from index.search import Nearest, Searcher
from index.segments import Snapshot

QUERY = np.zeros((1, 8), np.uint8)


@pytest.fixture
def items(make_items: Callable) -> list[Item]:
    return make_items(300, "odd", label="x") + make_items(300, "even", year=2020)


@pytest.fixture
def filled(store: EmbeddedStore, items: list[Item], model: ModelRef) -> EmbeddedStore:
    store.upsert("c", items, model)
    return store


def codes_of(items: list[Item]) -> np.ndarray:
    return np.array([np.frombuffer(item.code, np.uint8) for item in items])


@pytest.mark.parametrize("k", [0, -1, 1001, 10**9])
def test_k_out_of_range_is_refused_with_the_limits(filled: EmbeddedStore, k: int) -> None:
    for search in (lambda: filled.search("c", QUERY, k=k), lambda: filled.rescore("c", np.zeros(64), k=k)):
        with pytest.raises(InvalidQuery, match=f"k is {k}: give 1 to 1000"):
            search()


@pytest.mark.parametrize("radius", [-1, 65, 10**9])
def test_radius_out_of_range_is_refused_with_the_limits(filled: EmbeddedStore, radius: int) -> None:
    for search in (
        lambda: filled.search("c", QUERY, radius=radius),
        lambda: filled.rescore("c", np.zeros(64), radius=radius),
    ):
        with pytest.raises(InvalidQuery, match=f"radius is {radius}: give 0 to 64"):
            search()


@pytest.mark.parametrize(
    "queries",
    [np.zeros((1, 7), np.uint8), np.zeros(8, np.uint8), np.zeros((1, 8), np.float32), np.zeros((1, 64))],
)
def test_queries_of_another_shape_are_refused(filled: EmbeddedStore, queries: np.ndarray) -> None:
    with pytest.raises(InvalidQuery, match=r"uint8 \[n, 8\], codes of 64 bits"):
        filled.search("c", queries)


@pytest.mark.parametrize(
    "logits", [np.zeros(63), np.zeros((1, 64)), np.full(64, np.nan), np.zeros(64, np.int64), ["a"] * 64]
)
def test_logits_of_another_shape_are_refused(filled: EmbeddedStore, logits: object) -> None:
    with pytest.raises(InvalidQuery, match="give 64 floats"):
        filled.rescore("c", logits)


@pytest.mark.parametrize("field", ["label", "metadata.year"])
def test_a_field_that_no_item_has_is_refused_by_name(
    store: EmbeddedStore, make_items: Callable, model: ModelRef, field: str
) -> None:
    key = field.removeprefix("metadata.")
    with_field = Item("with", bytes(8), **({"label": "x"} if field == "label" else {"metadata": {key: 1}}))
    store.upsert("c", make_items(3), model)
    for where in ({field: "x"}, {field: {"exists": False}}, {"not": {"or": [{field: 1}]}}):
        with pytest.raises(InvalidQuery, match=f"'{field}'"):
            store.search("c", QUERY, where=where)
    store.upsert("c", [with_field], model)
    assert len(store.search("c", QUERY, where={field: {"exists": True}})[0].hits) == 1
    store.upsert("c", [Item("with", bytes(8))], model)  # The last item to have it has it no more.
    with pytest.raises(InvalidQuery, match=f"'{field}'"):
        store.search("c", QUERY, where={field: {"exists": True}})


def test_radius_is_inclusive_and_says_when_it_was_cut(store: EmbeddedStore, model: ModelRef) -> None:
    items = [Item(f"d{d}", ((1 << d) - 1).to_bytes(8, "big")) for d in range(10)]
    store.upsert("c", items, model)
    for radius, k, expected, truncated in (
        (3, 10, 4, False),
        (3, 4, 4, False),
        (3, 3, 3, True),
        (0, 1, 1, False),
    ):
        [result] = store.search("c", QUERY, k=k, radius=radius)
        assert [hit.distance for hit in result.hits] == list(range(expected))
        assert result.truncated is truncated
        rescored = store.rescore("c", np.full(64, -30.0), k=k, radius=radius)
        assert [hit.distance for hit in rescored.hits] == list(range(expected))
        assert rescored.truncated is truncated


def test_ties_are_ordered_by_the_bytes_of_the_id(store: EmbeddedStore, model: ModelRef) -> None:
    ids = ["b", "a", "B", "é", "z", "aa", "\uffff", "😀", "10", "9"]
    store.upsert("c", [Item(item_id, bytes(8)) for item_id in ids], model)
    expected = sorted(ids, key=str.encode)
    assert [hit.id for hit in store.search("c", QUERY)[0].hits] == expected
    assert [hit.id for hit in store.rescore("c", np.full(64, -1.0)).hits] == expected


def test_each_query_of_a_batch_gets_its_own_answer(
    filled: EmbeddedStore, items: list[Item], rng: np.random.Generator
) -> None:
    queries = rng.integers(0, 256, (9, 8), dtype=np.uint8)
    k = len(items)  # Every item: which of those that tie at a cut are kept depends on the threads.
    together = filled.search("c", queries, k=k)
    assert all(len(result.hits) == k for result in together)
    assert together == [filled.search("c", query[None], k=k)[0] for query in queries]
    assert filled.search("c", queries[:0]) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([0.01, 0.3, 1.0, 3.0, 30.0]),
    k=st.sampled_from([1, 5, 50]),
    radius=st.none() | st.integers(20, 40),
    where=st.sampled_from([None, {"label": "x"}]),
)
def test_rescoring_ranks_by_expected_distance(
    filled: EmbeddedStore, items: list[Item], seed: int, scale: float, k: int, radius: int | None, where: dict
) -> None:
    """With 600 items all are candidates, so the answer is that of brute force, and certified."""
    logits = np.random.default_rng(seed).standard_normal(64).astype(np.float32) * scale
    expected = Posterior(logits).expected_distances(codes_of(items))
    distances = hamming(pack_logits(logits)[None], codes_of(items))[0]
    ranked = sorted(
        (score, item.id, distance)
        for score, item, distance in zip(expected, items, distances.tolist(), strict=True)
        if (radius is None or distance <= radius) and (where is None or item.label == "x")
    )
    result = filled.rescore("c", logits, k=k, radius=radius, where=where)
    assert [(hit.id, hit.distance) for hit in result.hits] == [(i, d) for _, i, d in ranked[:k]]
    assert result.certified is True
    assert result.truncated == (radius is not None and len(ranked) > k)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddedStore, np.ndarray]:
    """More items than a re-ranked answer starts from, many of them near one another."""
    rng = np.random.default_rng(3)
    codes = np.packbits(rng.random((6000, 64)) < rng.choice([0.05, 0.5], (6000, 1)), axis=1)
    model = ModelRef("a" * 64, "tiny", 64)
    with EmbeddedStore.open(tmp_path_factory.mktemp("large"), num_threads=2) as store:
        store.upsert("c", [Item(f"{i}", code.tobytes()) for i, code in enumerate(codes)], model)
        yield store, codes


def test_a_certificate_is_never_wrong_and_neither_always_nor_never_given(
    large: tuple[EmbeddedStore, np.ndarray],
) -> None:
    store, codes = large
    rng = np.random.default_rng(4)
    certificates = set()
    # Queries amid many near codes, and queries far from all.
    for scale, sign in itertools.product(np.geomspace(0.05, 20, 20), (-1, rng.choice([-1, 1], 64))):
        logits = sign * np.abs(rng.standard_normal(64)) * scale
        result = store.rescore("c", logits, k=10)
        certificates.add(result.certified)
        scores = Posterior(logits).expected_distances(codes)
        best = np.sort(scores)[:10]
        found = [scores[int(hit.id)] for hit in result.hits]
        assert found == sorted(found)
        if result.certified:
            assert found == pytest.approx(best)
    assert certificates == {True, False}


class DeletingSearcher(Searcher):
    """Deletes items while the first search runs, at the worst moment: after it has read the codes."""

    def __init__(self, delete: Callable[[], object]) -> None:
        super().__init__(1)
        self.delete = delete
        self.num_searches = 0

    def search(self, snapshot: Snapshot, *args: object, **options: object) -> Nearest:
        found = super().search(snapshot, *args, **options)
        self.num_searches += 1
        if self.num_searches == 1:
            self.delete()
        return found


@pytest.mark.parametrize("where", [None, {"label": "x"}])
def test_a_hit_deleted_between_search_and_look_up_is_replaced(
    filled: EmbeddedStore, items: list[Item], where: dict | None
) -> None:
    collection = filled._collections["c"]
    best = filled.search("c", QUERY, k=20, where=where)[0].hits
    searcher = DeletingSearcher(lambda: filled.delete("c", [hit.id for hit in best[::2]]))
    condition = None if where is None else compile_filter(where)
    [result] = nearest(
        collection, searcher, QUERY, k=10, radius=None, condition=condition, labelled_only=False
    )
    searcher.close()
    assert searcher.num_searches == 2
    assert result.hits == best[1::2]


def test_an_update_moves_no_item_out_of_sight(filled: EmbeddedStore, model: ModelRef) -> None:
    """Readers pair memory with the catalogue while a writer changes both."""
    stop = threading.Event()

    def update() -> None:
        for year in range(2000, 2060):
            filled.upsert("c", [Item("moving", bytes(8), metadata={"year": year})], model)
        stop.set()

    filled.upsert("c", [Item("moving", bytes(8), metadata={"year": 1999})], model)
    seen = [1999]
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(update)
        while not stop.is_set():
            hit = filled.search("c", QUERY, k=1, where={"metadata.year": {"exists": True}})[0].hits[0]
            assert hit.id == "moving"
            assert hit.metadata["year"] >= seen[-1]
            seen.append(hit.metadata["year"])
        writing.result()
    assert len(set(seen)) > 3
