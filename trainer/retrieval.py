"""k-NN classification and mean average precision, for codes by Hamming and for floats by cosine.

Every query is compared with the whole gallery. Average precision is over the full ranking. Hamming
distances tie often; the AP given is then the mean over all orders of the tied items (McSherry and
Najork 2008), which needs no sorting: only how many items, and how many relevant ones, lie at each
distance.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.codes import Codes, unpack

_CHUNK = 256
"""Queries compared with the gallery at a time."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How well neighbours agree in label."""

    knn_top1: float
    """Share of queries whose label is the majority of their k nearest."""
    mean_ap: float
    """Mean average precision over the whole gallery."""


def evaluate_codes(
    queries: Codes, query_labels: Tensor, gallery: Codes, gallery_labels: Tensor, k: int = 20
) -> Retrieval:
    """Hamming neighbours of packed codes, uint8 [n, num_bytes]; labels are int64 [n]."""
    num_bits = queries.shape[1] * 8
    gallery_signs = _signs(gallery)
    votes, precisions = [], []
    for start in range(0, len(queries), _CHUNK):
        labels = query_labels[start : start + _CHUNK]
        # A dot product of signs is bits - 2 * distance, and float32 holds it exactly.
        distances = (num_bits - _signs(queries[start : start + _CHUNK]) @ gallery_signs.T) / 2
        votes.append(_vote(distances, gallery_labels, k) == labels)
        precisions.append(
            tied_average_precision(distances.long(), labels[:, None] == gallery_labels, num_bits)
        )
    return Retrieval(_mean(votes), _mean(precisions))


def evaluate_floats(
    queries: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, k: int = 20
) -> Retrieval:
    """Cosine neighbours of float vectors [n, width]; labels are int64 [n]."""
    gallery = F.normalize(gallery.float(), dim=1)
    votes, precisions = [], []
    for start in range(0, len(queries), _CHUNK):
        labels = query_labels[start : start + _CHUNK]
        distances = 1 - F.normalize(queries[start : start + _CHUNK].float(), dim=1) @ gallery.T
        votes.append(_vote(distances, gallery_labels, k) == labels)
        precisions.append(average_precision(distances, labels[:, None] == gallery_labels))
    return Retrieval(_mean(votes), _mean(precisions))


def average_precision(distances: Tensor, relevant: Tensor) -> Tensor:
    """AP of each row of float distances [q, n], float64 [q]; `relevant` is bool [q, n]."""
    order = torch.from_numpy(np.argsort(distances.numpy(), axis=1))
    ranked = relevant.gather(1, order).double()
    precision = ranked.cumsum(1) / torch.arange(1, ranked.shape[1] + 1)
    return (precision * ranked).sum(1) / ranked.sum(1).clamp(min=1)


def tied_average_precision(distances: Tensor, relevant: Tensor, num_bits: int) -> Tensor:
    """AP of each row of int64 distances [q, n], averaged over the orders of ties; float64 [q].

    Of n_d items at distance d, r_d are relevant; c and R count those nearer. The j-th of the tied items
    is relevant with probability r_d / n_d, and then R + (j-1)(r_d-1)/(n_d-1) + 1 relevant ones are
    expected among the first c + j. The sum over j of (a + b (j-1)) / (c + j) is
    b n + (a - b (c+1)) (H(c+n) - H(c)) with harmonic numbers H.
    """
    rows, columns = distances.shape
    bins = num_bits + 1
    place = distances + torch.arange(rows)[:, None] * bins
    n = torch.bincount(place.flatten(), minlength=rows * bins).view(rows, bins).double()
    r = torch.bincount(place[relevant], minlength=rows * bins).view(rows, bins).double()
    c, nearer_relevant = n.cumsum(1) - n, r.cumsum(1) - r
    harmonic = torch.cat(
        [torch.zeros(1).double(), torch.arange(1, columns + 1).double().reciprocal().cumsum(0)]
    )
    a = nearer_relevant + 1
    b = torch.where(n > 1, (r - 1) / (n - 1).clamp(min=1), torch.zeros_like(n))
    total = b * n + (a - b * (c + 1)) * (harmonic[(c + n).long()] - harmonic[c.long()])
    return (r / n.clamp(min=1) * total).sum(1) / r.sum(1).clamp(min=1)


def _vote(distances: Tensor, labels: Tensor, k: int) -> Tensor:
    """Majority label of the k nearest, int64 [q]; of equal counts, the one whose neighbours are nearer."""
    nearest = labels[distances.topk(k, largest=False, sorted=True).indices]
    # The nudges of all k neighbours together stay below one vote.
    weights = 1 + torch.arange(k, 0, -1).double() / (k * (k + 1))
    votes = torch.zeros(len(nearest), int(labels.max()) + 1, dtype=weights.dtype)
    return votes.scatter_add_(1, nearest, weights.expand_as(nearest)).argmax(1)


def _signs(codes: Codes) -> Tensor:
    """+1 and -1 for packed codes [n, num_bytes]: float32 [n, num_bits]."""
    return torch.from_numpy(unpack(codes)).float().mul_(2).sub_(1)


def _mean(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).double().mean())
