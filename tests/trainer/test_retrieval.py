import itertools

import numpy as np
import pytest
import torch

from contracts.codes import hamming
from trainer.retrieval import CUTOFFS, Ranking, Retrieval, evaluate_codes, evaluate_floats, vote


def naive_ap(relevant_in_order: list[bool]) -> float:
    found, total = 0, 0.0
    for rank, relevant in enumerate(relevant_in_order, start=1):
        if relevant:
            found += 1
            total += found / rank
    return total / found if found else 0.0


def orders_of_ties(distances: list[int]) -> list[tuple[int, ...]]:
    """Every order of the items that is sorted by distance."""
    return [
        order
        for order in itertools.permutations(range(len(distances)))
        if [distances[i] for i in order] == sorted(distances)
    ]


def rankings(distances: list[int], relevant: tuple[bool, ...]) -> list[Ranking]:
    """The same ranking made in both ways."""
    found, chosen = np.array(distances, np.int32), np.array(relevant)
    floats = found.astype(np.float32) / 8 - 0.5
    return [
        Ranking.by_counting(np.bincount(found), found[chosen]),
        Ranking.by_sorting(np.sort(floats), floats[chosen]),
    ]


def test_ap_recall_and_precision_are_means_over_every_order_of_the_tied_items() -> None:
    distances = [1, 2, 2, 2, 4, 4, 7]
    orders = orders_of_ties(distances)
    assert len(orders) == 12
    for relevant in itertools.product([False, True], repeat=7):
        ranked = [[relevant[i] for i in order] for order in orders]
        for ranking in rankings(distances, relevant):
            assert ranking.average_precision() == pytest.approx(np.mean([naive_ap(row) for row in ranked]))
            for k in range(1, 8):
                assert ranking.precision(k) == pytest.approx(np.mean([sum(row[:k]) / k for row in ranked]))
                assert ranking.recall(k) == pytest.approx(np.mean([any(row[:k]) for row in ranked]))


def test_a_vote_is_shared_by_the_items_tied_at_the_kth_distance() -> None:
    # One neighbour of label 1 is nearer; of the four tied ones three have label 0, for two places.
    distances, labels = np.array([3, 3, 3, 3, 1, 9], np.int32), np.array([0, 0, 0, 1, 1, 2])
    assert vote(distances, labels, 3, 3) == 1  # 1 + 2/4 votes against 6/4; those of label 1 are nearer
    assert vote(distances, labels, 3, 4) == 0  # 1 + 3/4 against 9/4


def test_no_number_depends_on_the_order_of_the_gallery() -> None:
    rng = np.random.default_rng(2)
    gallery = rng.integers(0, 256, (200, 1), dtype=np.uint8)  # 8 bits: most distances are tied
    labels = torch.from_numpy(np.sort(rng.integers(0, 4, 200)))  # sorted by class, as folders are
    order = rng.permutation(200)
    queries, query_labels = gallery[:50], labels[torch.from_numpy(order)[:50]]
    found = evaluate_codes(queries, query_labels, gallery, labels)
    assert evaluate_codes(queries, query_labels, gallery[order], labels[torch.from_numpy(order)]) == found


def naive_evaluation(
    distances: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, k: int
) -> Retrieval:
    """Of distances that do not tie: textbook definitions, one query after another."""
    hits, aps = [], []
    recall: dict[int, list[bool]] = {c: [] for c in CUTOFFS}
    precision: dict[int, list[float]] = {c: [] for c in CUTOFFS}
    for row, label in zip(distances, query_labels, strict=True):
        order = np.argsort(row)
        ranked = (gallery_labels[order] == label).tolist()
        votes: dict[int, list[float]] = {}
        for number in order[:k]:
            votes.setdefault(int(gallery_labels[number]), []).append(row[number])
        winner = max(votes, key=lambda label: (len(votes[label]), -sum(votes[label])))
        hits.append(winner == label)
        aps.append(naive_ap(ranked))
        for c in CUTOFFS:
            recall[c].append(any(ranked[:c]))
            precision[c].append(sum(ranked[:c]) / c)
    means = ({c: float(np.mean(rows[c])) for c in CUTOFFS} for rows in (recall, precision))
    return Retrieval(float(np.mean(hits)), float(np.mean(aps)), *means)


def assert_equal(found: Retrieval, expected: Retrieval) -> None:
    assert found.to_dict() == pytest.approx(expected.to_dict(), abs=1e-12)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven queries by 13 gallery items at a time, of 120."""
    monkeypatch.setattr("trainer.retrieval._BLOCK_BYTES", 7 * 4 * 120)
    monkeypatch.setattr("trainer.retrieval._GALLERY_ROWS", 13)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_floats_are_ranked_by_the_metric_over_the_whole_gallery(metric: str) -> None:
    rng = np.random.default_rng(1)
    gallery_labels, query_labels = rng.integers(0, 6, 120), rng.integers(0, 6, 30)
    centres = rng.normal(size=(6, 5))
    gallery = rng.normal(size=(120, 5)) + centres[gallery_labels]
    queries = rng.normal(size=(30, 5)) + centres[query_labels]
    if metric == "cosine":
        lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(gallery, axis=1)
        distances = 1 - queries @ gallery.T / lengths
    else:
        distances = ((queries[:, None] - gallery[None]) ** 2).sum(-1)
    found = evaluate_floats(
        torch.from_numpy(queries).float(),
        torch.from_numpy(query_labels),
        torch.from_numpy(gallery).float(),
        torch.from_numpy(gallery_labels),
        k=7,
        metric=metric,
    )
    expected = naive_evaluation(distances, query_labels, gallery_labels, 7)
    assert 0.2 < expected.knn_top1 < 0.9
    assert_equal(found, expected)


@pytest.mark.usefixtures("small_blocks")
def test_codes_are_ranked_by_hamming_distance_over_the_whole_gallery() -> None:
    rng = np.random.default_rng(3)
    gallery = rng.integers(0, 256, (120, 8), dtype=np.uint8)
    queries = gallery[:30] ^ (rng.random((30, 8)) < 0.3) * rng.integers(0, 256, (30, 8), dtype=np.uint8)
    gallery_labels, query_labels = rng.integers(0, 3, 120), rng.integers(0, 3, 30)
    found = evaluate_codes(
        queries, torch.from_numpy(query_labels), gallery, torch.from_numpy(gallery_labels), 5
    )
    # Ties broken at random, again and again.
    drawn = [
        naive_evaluation(hamming(queries, gallery) + rng.random((30, 120)), query_labels, gallery_labels, 5)
        for _ in range(300)
    ]
    expected = {key: np.mean([one.to_dict()[key] for one in drawn]) for key in found.to_dict()}
    assert found.to_dict() == pytest.approx(expected | {"knn_top1": found.knn_top1}, abs=0.01)
    # The vote of the shares is not the mean of the votes, yet close to it.
    assert found.knn_top1 == pytest.approx(expected["knn_top1"], abs=0.1)


def test_codes_and_floats_agree_where_there_are_no_ties() -> None:
    # Row i of a triangle has i + 1 ones, so the distance of two rows is the difference of their numbers.
    gallery = np.packbits(np.tri(64, dtype=np.uint8)[[1, 5, 20, 24, 50, 60]], axis=1)
    queries = np.packbits(np.tri(64, dtype=np.uint8)[[0, 21, 63]], axis=1)
    gallery_labels, query_labels = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 2])
    signs = [torch.from_numpy(np.unpackbits(x, axis=1) * 2.0 - 1) for x in (queries, gallery)]
    by_bits = evaluate_codes(queries, query_labels, gallery, gallery_labels, 3)
    by_cosine = evaluate_floats(signs[0], query_labels, signs[1], gallery_labels, 3)
    assert_equal(by_bits, by_cosine)
    assert by_bits.knn_top1 == by_bits.mean_ap == 1.0


def test_cosine_does_not_look_at_lengths() -> None:
    gallery = torch.tensor([[10.0, 1.0], [0.0, 0.1], [-5.0, 0.5]])
    found = evaluate_floats(
        torch.tensor([[0.0, 3.0]]), torch.tensor([1]), gallery, torch.tensor([0, 1, 2]), k=1
    )
    assert found.to_dict() == {"knn_top1": 1.0, "map": 1.0, "recall_at_1": 1.0}


def test_equal_votes_go_to_the_nearer_class() -> None:
    gallery = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
    for labels in ([0, 1, 0, 1], [1, 0, 1, 0]):
        found = evaluate_floats(
            torch.tensor([[1.0, 0.0]]), torch.tensor(labels[:1]), gallery, torch.tensor(labels), k=4
        )
        assert found.knn_top1 == 1.0


def test_more_neighbours_than_the_gallery_has_are_refused() -> None:
    codes, labels = np.zeros((3, 1), np.uint8), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="k is 4 and the gallery has 3 images: give --k"):
        evaluate_codes(codes, labels, codes, labels, k=4)
