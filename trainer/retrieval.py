"""How well neighbours agree in label: k-NN classification, mean average precision, recall and precision.

Every query is compared with the whole gallery, exactly. Hamming distances tie often, and so do vectors that
a quantiser made equal. Nothing here depends on the order in which tied items happen to lie: average
precision, recall and precision are their means over all orders of the ties (McSherry and Najork 2008), and
in a k-NN vote the items tied at the k-th distance share the votes that are left.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.codes import Codes, active_bits, unpack

CUTOFFS = (1, 10, 100)
"""Numbers of neighbours at which recall and precision are given, where the gallery has as many."""

_BLOCK_BYTES = 2**28
"""Distances held at a time: some queries by the whole gallery, 4 bytes each."""

_MAX_QUERIES = 1024
"""Queries in a block, however small the gallery."""

_GALLERY_ROWS = 4096
"""Codes unpacked to floats at a time: 32 MiB of them at 2048 bits."""

_Distances = npt.NDArray[Any]
"""int32 or float32 [n], or [q, n]: smaller is nearer."""

Metric = Literal["cosine", "euclidean"]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Means over the queries. An item is relevant to a query if it has its label."""

    knn_top1: float
    """Share of queries whose label gets the most votes of their k nearest."""
    mean_ap: float
    """Mean average precision over the whole gallery; 0 for a query to which nothing is relevant."""
    recall: dict[int, float]
    """Recall@k of metric learning (Jegou et al. 2011): share of queries with a relevant item among the k
    nearest, for each k of `CUTOFFS`."""
    precision: dict[int, float]
    """Precision@k: share of relevant items among the k nearest."""

    def to_dict(self) -> dict[str, float]:
        """Flat: `knn_top1`, `map`, `recall_at_1`, ..., `precision_at_100`."""
        values = {"knn_top1": self.knn_top1, "map": self.mean_ap}
        values |= {f"recall_at_{k}": value for k, value in self.recall.items()}
        # At 1, recall and precision are the same.
        return values | {f"precision_at_{k}": value for k, value in self.precision.items() if k > 1}


class Ranking:
    """A gallery of n items ranked by their distances from one query."""

    def __init__(self, distances: _Distances, relevant: npt.NDArray[np.bool_]) -> None:
        self._distances = distances
        self._ordered = np.sort(distances)
        self._relevant = distances[relevant]

    def average_precision(self) -> float:
        """Mean over the relevant items, and over the orders of ties, of the precision at their rank.

        Of n items tied at a distance r are relevant; c items are nearer, R of them relevant. If the j-th of
        the tied ones is relevant, R + 1 + (j-1)(r-1)/(n-1) relevant items are expected among the first c + j.
        With a = R + 1 and b = (r-1)/(n-1), the mean over j of (a + b (j-1)) / (c + j) is
        (b n + (a - b (c+1)) (H(c+n) - H(c))) / n, with harmonic numbers H.
        """
        at, r = np.unique(self._relevant, return_counts=True)
        if not len(at):
            return 0.0
        c = self._ordered.searchsorted(at, "left")
        n = self._ordered.searchsorted(at, "right") - c
        a = np.cumsum(r) - r + 1
        b = (r - 1) / np.maximum(n - 1, 1)
        harmonic = _harmonic_numbers(len(self._ordered))
        precision = (b * n + (a - b * (c + 1)) * (harmonic[c + n] - harmonic[c])) / n
        return float((r * precision).sum() / r.sum())

    def precision(self, k: int) -> float:
        """Share of relevant items among the k nearest, the mean over the orders of ties."""
        cut = self._cut(k)
        nearer, tied = self._relevant_at(cut.distance)
        return (nearer + cut.share * tied) / k

    def recall(self, k: int) -> float:
        """Whether one of the k nearest is relevant: the share of the orders of ties in which one is."""
        cut = self._cut(k)
        nearer, tied = self._relevant_at(cut.distance)
        if nearer:
            return 1.0
        return 1 - math.comb(cut.num_tied - tied, cut.num_taken) / math.comb(cut.num_tied, cut.num_taken)

    def vote(self, labels: npt.NDArray[np.int64], k: int) -> int:
        """The label, of int64 [n], with the most votes of the k nearest.

        Items tied at the k-th distance have an equal share of the votes left for them. Of labels with
        equally many votes, the one whose neighbours are nearer on average wins; then the smallest.
        """
        cut = self._cut(k)
        nearest = np.flatnonzero(self._distances <= cut.distance)
        distances, labels = self._distances[nearest].astype(np.float64), labels[nearest]
        weights = np.where(distances < cut.distance, 1.0, cut.share)
        votes = np.bincount(labels, weights)
        remoteness = np.bincount(labels, weights * distances)
        most = votes >= votes.max() - 1e-9  # Shares add up to whole votes only nearly.
        return int(np.where(most, remoteness, np.inf).argmin())

    def _cut(self, k: int) -> "_Cut":
        distance = self._ordered[k - 1]
        num_nearer = int(self._ordered.searchsorted(distance, "left"))
        num_tied = int(self._ordered.searchsorted(distance, "right")) - num_nearer
        return _Cut(distance, num_tied, k - num_nearer)

    def _relevant_at(self, distance: float) -> tuple[int, int]:
        """How many relevant items are nearer than `distance`, and how many are exactly there."""
        return int((self._relevant < distance).sum()), int((self._relevant == distance).sum())


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a ranking is cut after its first k items."""

    distance: float
    num_tied: int
    """Items at that distance."""
    num_taken: int
    """Of these, how many are among the first k."""

    @property
    def share(self) -> float:
        return self.num_taken / self.num_tied


def evaluate_codes(
    queries: Codes, query_labels: Tensor, gallery: Codes, gallery_labels: Tensor, k: int = 20
) -> Retrieval:
    """Hamming neighbours of packed codes, uint8 [n, num_bytes]; labels are int64 [n].

    Raises ValueError if the gallery has fewer than k items.
    """

    buffer = torch.empty(min(_GALLERY_ROWS, len(gallery)), gallery.shape[1] * 8)

    def distances(start: int, stop: int) -> _Distances:
        bits = torch.from_numpy(unpack(queries[start:stop])).float()
        ones = torch.from_numpy(active_bits(queries[start:stop]))[:, None]
        found = torch.empty((len(bits), len(gallery)), dtype=torch.int32)
        for row in range(0, len(gallery), _GALLERY_ROWS):
            block = torch.from_numpy(unpack(gallery[row : row + _GALLERY_ROWS]))
            floats = buffer[: len(block)].copy_(block)
            # What only the query has counts 1, what both have 1 - 1, what only the gallery has 1. Sums of
            # so few ones are exact in float32.
            found[:, row : row + len(block)] = ((1 - 2 * bits) @ floats.T).add_(ones)
        return found.numpy()

    return _evaluate(distances, query_labels, gallery_labels, k)


def evaluate_floats(
    queries: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    k: int = 20,
    metric: Metric = "cosine",
) -> Retrieval:
    """Neighbours of float32 vectors [n, width]; labels are int64 [n].

    Raises ValueError if the gallery has fewer than k items.
    """
    squares = gallery.square().sum(1)
    lengths = squares.sqrt().clamp(min=1e-12)

    def distances(start: int, stop: int) -> _Distances:
        asked = queries[start:stop]
        if metric == "cosine":
            return (1 - F.normalize(asked, dim=1) @ gallery.T / lengths).numpy()
        # Squared, and without the query's own length: neither changes the ranking.
        return (squares - 2 * (asked @ gallery.T)).numpy()

    return _evaluate(distances, query_labels, gallery_labels, k)


def _evaluate(
    distances: Callable[[int, int], _Distances], query_labels: Tensor, gallery_labels: Tensor, k: int
) -> Retrieval:
    """Judge the rankings of all queries; `distances(start, stop)` gives [stop - start, n]."""
    asked, labels = query_labels.numpy(), gallery_labels.numpy()
    if k > len(labels):
        raise ValueError(f"k is {k} and the gallery has {len(labels)} images: give --k of at most that")
    cutoffs = [cutoff for cutoff in CUTOFFS if cutoff <= len(labels)]
    rows: list[list[float]] = []
    step = min(max(_BLOCK_BYTES // (4 * len(labels)), 1), _MAX_QUERIES)
    for start in range(0, len(asked), step):
        block = distances(start, min(start + step, len(asked)))
        for row, label in zip(block, asked[start : start + step], strict=True):
            ranking = Ranking(row, labels == label)
            hit = ranking.vote(labels, k) == label
            recall = [ranking.recall(cutoff) for cutoff in cutoffs]
            precision = [ranking.precision(cutoff) for cutoff in cutoffs]
            rows.append([hit, ranking.average_precision(), *recall, *precision])
    top1, mean_ap, *rest = np.mean(rows, axis=0).tolist()
    recall, precision = rest[: len(cutoffs)], rest[len(cutoffs) :]
    return Retrieval(
        top1,
        mean_ap,
        dict(zip(cutoffs, recall, strict=True)),
        dict(zip(cutoffs, precision, strict=True)),
    )


@lru_cache(maxsize=1)
def _harmonic_numbers(count: int) -> npt.NDArray[np.float64]:
    """H(0), ..., H(count)."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])
