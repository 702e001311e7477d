import itertools

import numpy as np
import pytest
import torch

from contracts.codes import hamming
from trainer.retrieval import (
    average_precision,
    evaluate_codes,
    evaluate_floats,
    tied_average_precision,
)


def naive_ap(relevant_in_order: list[bool]) -> float:
    found, total = 0, 0.0
    for rank, relevant in enumerate(relevant_in_order, start=1):
        if relevant:
            found += 1
            total += found / rank
    return total / found if found else 0.0


def naive_vote(distances: np.ndarray, labels: np.ndarray, k: int) -> int:
    """Majority of the k nearest; of equal counts the class with the smaller sum of ranks."""
    nearest = np.argsort(distances, kind="stable")[:k]
    ranks: dict[int, list[int]] = {}
    for rank, number in enumerate(nearest):
        ranks.setdefault(int(labels[number]), []).append(rank)
    return max(ranks, key=lambda label: (len(ranks[label]), -sum(ranks[label])))


def test_ap_with_ties_is_the_mean_over_every_order_of_the_tied_items() -> None:
    distances = [1, 2, 2, 2, 4, 4, 7]
    for relevant in itertools.product([False, True], repeat=7):
        aps = []
        for order in itertools.permutations(range(7)):
            in_order = [distances[i] for i in order]
            if in_order == sorted(in_order):
                aps.append(naive_ap([relevant[i] for i in order]))
        found = tied_average_precision(torch.tensor([distances]), torch.tensor([relevant]), 8)
        assert found.item() == pytest.approx(np.mean(aps), abs=1e-12)


def test_ap_without_ties_is_the_textbook_one() -> None:
    rng = np.random.default_rng(0)
    distances = torch.from_numpy(rng.random((5, 30)))
    relevant = torch.from_numpy(rng.random((5, 30)) < 0.3)
    found = average_precision(distances, relevant)
    for row in range(5):
        order = np.argsort(distances[row].numpy())
        assert found[row].item() == pytest.approx(naive_ap(relevant[row].numpy()[order].tolist()))


def test_codes_are_ranked_by_hamming_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.retrieval._CHUNK", 7)
    rng = np.random.default_rng(1)
    gallery = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    queries = gallery[:20] ^ (rng.random((20, 32)) < 0.3) * rng.integers(0, 256, (20, 32), dtype=np.uint8)
    gallery_labels, query_labels = rng.integers(0, 3, 60), rng.integers(0, 3, 20)
    found = evaluate_codes(
        queries, torch.from_numpy(query_labels), gallery, torch.from_numpy(gallery_labels), 5
    )
    distances = hamming(queries, gallery)
    votes = [naive_vote(row, gallery_labels, 5) for row in distances]
    assert found.knn_top1 == pytest.approx(np.mean(np.array(votes) == query_labels), abs=0.051)
    # Nearly no ties at 256 random bits, so any order of them gives nearly the same.
    aps = [
        naive_ap((gallery_labels[np.argsort(row, kind="stable")] == label).tolist())
        for row, label in zip(distances, query_labels, strict=True)
    ]
    assert found.mean_ap == pytest.approx(np.mean(aps), abs=0.02)


def test_codes_and_floats_agree_where_there_are_no_ties() -> None:
    # Row i of a triangle has i + 1 ones, so the distance of two rows is the difference of their numbers.
    gallery = np.packbits(np.tri(64, dtype=np.uint8)[[1, 5, 20, 24, 50, 60]], axis=1)
    queries = np.packbits(np.tri(64, dtype=np.uint8)[[0, 21, 63]], axis=1)
    gallery_labels, query_labels = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 2])
    signs = [torch.from_numpy(np.unpackbits(x, axis=1) * 2.0 - 1) for x in (queries, gallery)]
    by_bits = evaluate_codes(queries, query_labels, gallery, gallery_labels, 3)
    by_cosine = evaluate_floats(signs[0], query_labels, signs[1], gallery_labels, 3)
    assert by_bits == by_cosine
    assert by_bits.knn_top1 == by_bits.mean_ap == 1.0


def test_floats_are_ranked_by_cosine_not_by_length() -> None:
    gallery = torch.tensor([[10.0, 1.0], [0.0, 0.1], [-5.0, 0.5]])
    found = evaluate_floats(
        torch.tensor([[0.0, 3.0]]), torch.tensor([1]), gallery, torch.tensor([0, 1, 2]), k=1
    )
    assert found.knn_top1 == 1.0
    assert found.mean_ap == 1.0


def test_equal_votes_go_to_the_nearer_class() -> None:
    gallery = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
    labels = torch.tensor([2, 0, 0, 2])  # ranks 0 + 3 and 1 + 2: a true tie, any of the two
    found = evaluate_floats(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), gallery, labels[[1, 0, 2, 3]], 4)
    assert found.knn_top1 == 1.0
