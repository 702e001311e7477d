import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codes import hamming
from index.search import Searcher
from index.segments import Layout, Snapshot


@pytest.fixture(scope="module", params=[1, 2, 3])
def searcher(request: pytest.FixtureRequest) -> Searcher:
    searcher = Searcher(request.param)
    yield searcher
    searcher.close()


def filled(codes: np.ndarray, labelled: np.ndarray, dead: np.ndarray, segment_slots: int) -> Snapshot:
    snapshot = Snapshot(0, 0, Layout(codes.shape[1], segment_slots), {})
    snapshot = snapshot.with_changes(codes, labelled, np.empty(0, np.int64))
    return snapshot.with_changes(codes[:0], labelled[:0], dead)


def check(
    searcher: Searcher, snapshot: Snapshot, queries: np.ndarray, k: int, slots: np.ndarray, **options
) -> None:
    """The answer is `slots` by brute force: the same distances, and each slot at its own distance."""
    codes = snapshot.codes_at(slots)
    expected = np.sort(hamming(queries, codes), axis=1)[:, :k]
    found = searcher.search(snapshot, queries, k, **options)
    for row in range(len(queries)):
        real = found.slots[row] >= 0
        assert found.distances[row][real].tolist() == expected[row].tolist()
        assert not real[real.sum() :].any()
        assert len(set(found.slots[row][real])) == real.sum()
        assert set(found.slots[row][real]) <= set(slots.tolist())
        at = snapshot.codes_at(found.slots[row][real])
        assert hamming(queries[row : row + 1], at)[0].tolist() == expected[row].tolist()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_search_is_brute_force(searcher: Searcher, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    count = data.draw(st.integers(0, 200), label="count")
    width = data.draw(st.sampled_from([1, 4, 5, 8, 32, 33, 64, 256]), label="width")
    segment_slots = data.draw(st.sampled_from([8, 64, 1024]), label="segment_slots")
    # Few distinct bytes make many ties.
    codes = rng.integers(0, data.draw(st.sampled_from([2, 256])), (count, width), dtype=np.uint8)
    labelled = rng.random(count) < 0.5
    alive = rng.random(count) < data.draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]), label="alive")
    chosen = rng.random(count) < data.draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]), label="chosen")
    snapshot = filled(codes, labelled, np.flatnonzero(~alive), segment_slots)
    queries = rng.integers(0, 256, (data.draw(st.integers(0, 5)), width), dtype=np.uint8)
    k = data.draw(st.sampled_from([1, 2, 10, 1000]), label="k")
    mask = {
        number: np.packbits(
            np.isin(np.arange(segment_slots), slots - number * segment_slots), bitorder="little"
        )
        for number, slots in snapshot.layout.split(np.flatnonzero(chosen)).items()
    }
    check(searcher, snapshot, queries, k, np.flatnonzero(alive))
    check(searcher, snapshot, queries, k, np.flatnonzero(alive & labelled), labelled_only=True)
    check(searcher, snapshot, queries, k, np.flatnonzero(alive & chosen), mask=mask)
    check(
        searcher,
        snapshot,
        queries,
        k,
        np.flatnonzero(alive & chosen & labelled),
        labelled_only=True,
        mask=mask,
    )


def test_many_segments_of_real_codes_split_over_threads(searcher: Searcher, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (30_000, 256), dtype=np.uint8)
    dead = rng.choice(30_000, 500, replace=False)
    snapshot = filled(codes, np.zeros(30_000, np.bool_), dead, 1024)
    alive = np.setdiff1d(np.arange(30_000), dead)
    check(searcher, snapshot, rng.integers(0, 256, (5, 256), dtype=np.uint8), 100, alive)
    snapshot = filled(codes, np.zeros(30_000, np.bool_), dead, 2**16)
    check(searcher, snapshot, rng.integers(0, 256, (5, 256), dtype=np.uint8), 100, alive)


def test_queries_need_not_be_contiguous(searcher: Searcher, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (100, 8), dtype=np.uint8)
    snapshot = filled(codes, np.zeros(100, np.bool_), np.empty(0, np.int64), 64)
    queries = rng.integers(0, 256, (6, 16), dtype=np.uint8)[::2, ::2]
    check(searcher, snapshot, queries, 3, np.arange(100))
