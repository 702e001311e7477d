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

_Counts = npt.NDArray[np.int64]
"""Numbers of items, or of labels."""

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
    """A gallery ranked by its distances from one query: levels of tied items, from near to far.

    Only levels with a relevant item are kept, since no number here asks about the others.
    """

    def __init__(self, nearer: _Counts, tied: _Counts, relevant: _Counts, num_items: int) -> None:
        """`nearer` items, of `num_items`, lie before a level of `tied` ones, `relevant` of them relevant.

        int64 [levels] each, `nearer` ascending and `relevant` positive.
        """
        self._nearer = nearer
        self._tied = tied
        self._relevant = relevant
        self._num_items = num_items

    @classmethod
    def by_counting(cls, counts: _Counts, relevant: _Distances) -> "Ranking":
        """Of distances that are small whole numbers: how many items are at each, and the relevant ones'."""
        found = np.bincount(relevant, minlength=len(counts))
        at = np.flatnonzero(found)
        reached = np.cumsum(counts)
        return cls(reached[at] - counts[at], counts[at], found[at], int(reached[-1]))

    @classmethod
    def by_sorting(cls, ordered: _Distances, relevant: _Distances) -> "Ranking":
        """Of any distances: those of all items, ascending, and those of the relevant ones."""
        at, found = np.unique(relevant, return_counts=True)
        nearer = ordered.searchsorted(at, "left")
        tied = np.ones_like(nearer)
        # Ties are few, and a search in a large array is slow: only those levels where there are any.
        many = np.flatnonzero(ordered[np.minimum(nearer + 1, len(ordered) - 1)] == at)
        tied[many] = ordered.searchsorted(at[many], "right") - nearer[many]
        return cls(nearer, tied, found, len(ordered))

    def average_precision(self) -> float:
        """Mean over the relevant items, and over the orders of ties, of the precision at their rank.

        Of n items tied at a distance r are relevant; c items are nearer, R of them relevant. If the j-th of
        the tied ones is relevant, R + 1 + (j-1)(r-1)/(n-1) relevant items are expected among the first c + j.
        With a = R + 1 and b = (r-1)/(n-1), the mean over j of (a + b (j-1)) / (c + j) is
        (b n + (a - b (c+1)) (H(c+n) - H(c))) / n, with harmonic numbers H.
        """
        c, n, r = self._nearer, self._tied, self._relevant
        if not len(r):
            return 0.0
        a = np.cumsum(r) - r + 1
        b = (r - 1) / np.maximum(n - 1, 1)
        harmonic = _harmonic_numbers(self._num_items)
        precision = (b * n + (a - b * (c + 1)) * (harmonic[c + n] - harmonic[c])) / n
        return float((r * precision).sum() / r.sum())

    def precision(self, k: int) -> float:
        """Share of relevant items among the k nearest, the mean over the orders of ties."""
        level = self._levels_before(k)
        num_relevant = float(self._relevant[:level].sum())
        if level:
            # Of the last level that is begun, what is taken.
            taken = min(k - self._nearer[level - 1], self._tied[level - 1])
            num_relevant -= self._relevant[level - 1] * (1 - taken / self._tied[level - 1])
        return num_relevant / k

    def recall(self, k: int) -> float:
        """Whether one of the k nearest is relevant: the share of the orders of ties in which one is."""
        if not self._levels_before(k):
            return 0.0
        tied, relevant = int(self._tied[0]), int(self._relevant[0])
        taken = min(k - int(self._nearer[0]), tied)
        return 1 - math.comb(tied - relevant, taken) / math.comb(tied, taken)

    def _levels_before(self, k: int) -> int:
        """Levels that have an item among the k nearest."""
        return int(self._nearer.searchsorted(k, "left"))


def vote(distances: _Distances, labels: _Counts, cut: float, k: int) -> int:
    """The label with the most votes of the k nearest of n items, which are at most `cut` away.

    Items tied at the k-th distance have an equal share of the votes left for them. Of labels, int64 [n],
    with equally many votes, the one whose neighbours are nearer on average wins; then the smallest.
    """
    nearest = np.flatnonzero(distances <= cut)
    away, labels = distances[nearest].astype(np.float64), labels[nearest]
    tied = away == cut
    num_tied = int(tied.sum())
    weights = np.where(tied, (k - len(away) + num_tied) / num_tied, 1.0)
    votes = np.bincount(labels, weights)
    remoteness = np.bincount(labels, weights * away)
    most = votes >= votes.max() - 1e-9  # Shares add up to whole votes only nearly.
    return int(np.where(most, remoteness, np.inf).argmin())


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

    return _evaluate(distances, _count, query_labels, gallery_labels, k)


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
            similarities = F.normalize(asked, dim=1) @ gallery.T
            return similarities.div_(lengths).neg_().add_(1).numpy()
        # Squared, and without the query's own length: neither changes the ranking.
        return (asked @ gallery.T).mul_(-2).add_(squares).numpy()

    return _evaluate(distances, _sort, query_labels, gallery_labels, k)


def _evaluate(
    distances: Callable[[int, int], _Distances],
    rank: Callable[[_Distances, _Counts, int], tuple[Ranking, float]],
    query_labels: Tensor,
    gallery_labels: Tensor,
    k: int,
) -> Retrieval:
    """Judge the rankings of all queries; `distances(start, stop)` gives [stop - start, n]."""
    asked, labels = query_labels.numpy(), gallery_labels.numpy()
    if k > len(labels):
        raise ValueError(f"k is {k} and the gallery has {len(labels)} images: give --k of at most that")
    cutoffs = [cutoff for cutoff in CUTOFFS if cutoff <= len(labels)]
    places = {label: np.flatnonzero(labels == label) for label in np.unique(asked)}
    rows: list[list[float]] = []
    step = min(max(_BLOCK_BYTES // (4 * len(labels)), 1), _MAX_QUERIES)
    for start in range(0, len(asked), step):
        block = distances(start, min(start + step, len(asked)))
        for row, label in zip(block, asked[start : start + step], strict=True):
            ranking, cut = rank(row, places[label], k)
            hit = vote(row, labels, cut, k) == label
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


def _count(distances: _Distances, relevant: _Counts, k: int) -> tuple[Ranking, float]:
    """The ranking of Hamming distances [n], and the k-th of them; `relevant` are places in the gallery.

    A code of B bits has only B + 1 distances: counting them costs a fraction of sorting.
    """
    counts = np.bincount(distances)
    cut = int(np.cumsum(counts).searchsorted(k))
    return Ranking.by_counting(counts, distances[relevant]), cut


def _sort(distances: _Distances, relevant: _Counts, k: int) -> tuple[Ranking, float]:
    """The same of any distances."""
    ordered = np.sort(distances)
    return Ranking.by_sorting(ordered, distances[relevant]), ordered[k - 1]


@lru_cache(maxsize=1)
def _harmonic_numbers(count: int) -> npt.NDArray[np.float64]:
    """H(0), ..., H(count)."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])
