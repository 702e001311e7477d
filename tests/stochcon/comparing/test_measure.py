import numpy as np
import pytest

from contracts.codes import hamming, unpack
from index.protocol import Hit
from service.knn import vote
from stochcon.comparing import measure


def codes(num: int = 40, num_bytes: int = 3, seed: int = 0) -> np.ndarray:
    """Few bits, so that distances tie."""
    return np.random.default_rng(seed).integers(0, 256, (num, num_bytes), dtype=np.uint8)


def ranking(all_codes: np.ndarray, query: int) -> list[tuple[int, int]]:
    """Distance and position of every other code, nearest first."""
    row = hamming(all_codes[query : query + 1], all_codes)[0].tolist()
    return sorted((distance, place) for place, distance in enumerate(row) if place != query)


@pytest.fixture(params=[2**26, 500])
def _block(request, monkeypatch):
    """All queries at once, and three at a time."""
    monkeypatch.setattr(measure, "_BLOCK_BYTES", request.param)


@pytest.mark.parametrize("num_bytes", [1, 3, 8, 33, 256])
def test_distances_are_those_of_the_reference_for_every_size_of_code(num_bytes):
    queries, gallery = codes(5, num_bytes, seed=1), codes(7, num_bytes, seed=2)
    assert (measure.distances(queries, gallery) == hamming(queries, gallery)).all()
    assert (measure.distances(queries[::2], gallery[::-1]) == hamming(queries[::2], gallery[::-1])).all()


@pytest.mark.usefixtures("_block")
def test_neighbours_are_the_nearest_others_and_the_first_of_those_that_tie():
    all_codes = codes()
    queries = np.array([3, 0, 39, 17])
    found = measure.find_neighbours(all_codes, queries, 6)
    for row, query in enumerate(queries):
        expected = ranking(all_codes, query)[:6]
        assert list(zip(found.distances[row], found.positions[row], strict=True)) == expected


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("k", [1, 5, 100])
def test_scores_by_label_are_those_of_the_naive_loop(k):
    all_codes = codes(24)
    labels = [("cat", "dog", "owl")[place] for place in np.random.default_rng(1).integers(3, size=24)]
    queries = np.arange(23, -1, -1)
    found = measure.judge_by_label(all_codes, labels, queries, k)
    for row, query in enumerate(queries):
        others = ranking(all_codes, query)
        hits = [Hit(str(place), distance, labels[place], {}, None) for distance, place in others[:k]]
        assert found.is_voted_right[row] == (vote(hits, 24)[0].label == labels[query])
        relevant = [labels[place] == labels[query] for _, place in others]
        precisions = [sum(relevant[: rank + 1]) / (rank + 1) for rank in range(23) if relevant[rank]]
        assert found.average_precision[row] == pytest.approx(sum(precisions) / len(precisions))
        assert found.recall[1][row] == relevant[0]
        assert found.recall[10][row] == any(relevant[:10])


def test_two_tight_groups_are_told_apart_without_a_mistake():
    all_codes = np.array([[0], [1], [2], [255], [254], [253]], dtype=np.uint8)
    found = measure.judge_by_label(all_codes, ["a"] * 3 + ["b"] * 3, np.arange(6), 2)
    assert found.is_voted_right.all()
    assert found.average_precision.tolist() == [1] * 6
    assert list(found.recall) == [1]  # Nobody has ten others.
    assert found.recall[1].all()


def test_average_precision_of_a_known_ranking():
    assert measure.average_precision(np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.usefixtures("_block")
def test_an_original_is_found_first_where_no_other_is_as_near_before_it():
    gallery = np.array([[0], [0], [15], [255]], dtype=np.uint8)
    queries = np.array([[0], [0], [14], [255], [0]], dtype=np.uint8)
    found = measure.is_found_first(queries, np.array([0, 1, 2, 3, 3]), gallery)
    assert found.tolist() == [True, False, True, True, False]


def test_codes_that_are_all_one_find_no_more_than_chance_does():
    gallery = np.zeros((50, 4), dtype=np.uint8)
    assert measure.is_found_first(gallery, np.arange(50), gallery).sum() == 1


def test_overlap_counts_the_common_ones_in_any_order():
    a = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert measure.mean_overlap(a, a[:, ::-1]) == 1
    assert measure.mean_overlap(a, np.array([[4, 9, 1, 10], [5, 0, 1, 2]])) == pytest.approx(
        (2 / 4 + 1 / 4) / 2
    )


def test_bits_are_counted_as_in_the_unpacked_codes():
    all_codes = codes(6) & np.array([0x0F, 0xFF, 0x01], dtype=np.uint8)
    bits = unpack(all_codes)
    assert measure.constant_bits(all_codes) == int((bits == bits[0]).all(axis=0).sum())
    assert measure.constant_bits(all_codes) >= 4 + 7
    assert measure.bit_activity(all_codes) == pytest.approx(bits.mean(axis=0))


def test_activity_of_more_codes_than_are_unpacked_at_once(monkeypatch):
    expected = measure.bit_activity(codes())
    monkeypatch.setattr(measure, "_UNPACKED_ROWS", 7)
    assert measure.bit_activity(codes()).tolist() == expected.tolist()


def test_images_that_share_a_code_are_counted_each():
    assert measure.num_sharing_a_code(np.array([[1, 2], [3, 4], [1, 2], [1, 2], [3, 5]], dtype=np.uint8)) == 3


def test_random_pairs_are_of_different_images_and_of_all():
    first, second = measure.random_pairs(4, 1000, np.random.default_rng(0))
    assert (first != second).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 12


def test_distances_of_pairs_are_those_of_the_reference():
    all_codes = codes()
    pairs = np.array([0, 5, 39]), np.array([1, 5, 2])
    expected = [hamming(all_codes, all_codes)[pair] for pair in zip(*pairs, strict=True)]
    assert measure.paired_distances(all_codes, pairs).tolist() == expected


def test_separation_is_the_share_of_pairs_in_the_right_order():
    random = np.random.default_rng(0)
    near, far = random.integers(0, 9, 30), random.integers(3, 14, 50)
    expected = np.mean([(a < b) + 0.5 * (a == b) for a in near for b in far])
    assert measure.separation(near, far) == pytest.approx(expected)
    assert measure.separation(near, near) == pytest.approx(0.5)
