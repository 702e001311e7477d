import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.protocol import Hit
from service.knn import vote


def hits(*pairs: tuple[str | None, int]) -> list[Hit]:
    return [Hit(str(i), distance, label, {}, None) for i, (label, distance) in enumerate(pairs)]


def test_nearer_neighbours_weigh_more() -> None:
    (first, second) = vote(hits(("far", 200), ("far", 210), ("near", 50)), 2048)
    assert (first.label, second.label) == ("near", "far")


def test_many_neighbours_outvote_a_slightly_nearer_one() -> None:
    assert vote(hits(("one", 100), ("many", 105), ("many", 106), ("many", 107)), 2048)[0].label == "many"


def test_a_neighbour_fifty_bits_farther_has_half_the_weight() -> None:
    scores = {one.label: one.score for one in vote(hits(("a", 300), ("b", 350)), 2048)}
    assert scores["b"] / scores["a"] == pytest.approx(0.498, abs=0.001)


def test_equal_scores_are_ordered_by_label() -> None:
    assert [one.label for one in vote(hits(("b", 5), ("a", 5), ("c", 5)), 64)] == ["a", "b", "c"]


def test_hits_without_labels_have_no_vote() -> None:
    assert vote(hits((None, 0), (None, 1)), 64) == []
    assert [one.label for one in vote(hits((None, 0), ("a", 60)), 64)] == ["a"]
    assert vote([], 64) == []


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2048)), min_size=1, max_size=50))
def test_scores_are_the_shares_of_the_formula_and_sum_to_one(pairs: list[tuple[str, int]]) -> None:
    scores = {one.label: one.score for one in vote(hits(*pairs), 2048)}
    assert sum(scores.values()) == pytest.approx(1)
    weights = [(label, math.exp((1 - 2 * distance / 2048) / 0.07)) for label, distance in pairs]
    total = math.fsum(weight for _, weight in weights)
    for label, score in scores.items():
        assert score == pytest.approx(math.fsum(w for one, w in weights if one == label) / total)
