"""What codes say about images: neighbours, their labels, and how the bits are used. Functions of arrays only.

Hamming distances tie often. Every ranking here is by distance and then by position, so whoever calls puts
the images in one random order first, the same for both models: then ties favour neither, and a model that
gives every image one code finds the right one as often as chance does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from contracts.codes import Codes, unpack
from index.protocol import Hit
from service.knn import vote

Positions = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

CUTOFFS = (1, 10)
"""Numbers of neighbours at which recall is given."""

_BLOCK_BYTES = 2**26
"""Distances held at a time, 4 bytes each."""

_UNPACKED_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k nearest other images of each query, nearest first."""

    positions: Positions
    """int64 [num_queries, k]"""
    distances: Distances
    """int32 [num_queries, k]"""


@dataclass(frozen=True, slots=True)
class Judged:
    """How well the other images rank by label, for each query."""

    is_voted_right: npt.NDArray[np.bool_]
    """bool [num_queries]: whether the vote of the k nearest names the query's own label."""
    average_precision: Floats
    """float64 [num_queries], over all other images."""
    recall: dict[int, npt.NDArray[np.bool_]]
    """Whether one of the nearest has the query's label, for each number of `CUTOFFS` that there are."""


def distances(queries: Codes, codes: Codes) -> Distances:
    """Hamming distances, int32 [num_queries, num_codes], of packed codes of the same number of bits."""
    queries, codes = np.ascontiguousarray(queries), np.ascontiguousarray(codes)
    found = np.empty((len(queries), len(codes)), dtype=np.int32)
    faiss.hammings(
        faiss.swig_ptr(queries),
        faiss.swig_ptr(codes),
        len(queries),
        len(codes),
        codes.shape[1],
        faiss.swig_ptr(found),
    )
    return found


def find_neighbours(codes: Codes, queries: Positions, k: int) -> Neighbours:
    """The k nearest of the other codes for the codes at `queries`; k is below the number of codes."""
    positions = np.empty((len(queries), k), dtype=np.int64)
    nearest = np.empty((len(queries), k), dtype=np.int32)
    for number, order, row in _rankings(codes, queries):
        positions[number] = order[:k]
        nearest[number] = row[order[:k]]
    return Neighbours(positions, nearest)


def judge_by_label(codes: Codes, labels: Sequence[str], queries: Positions, k: int) -> Judged:
    """Leave each query out, and see whether the rest names its label, by the service's own vote.

    Every label of a query must be that of another image too. All others vote if they are fewer than k.
    """
    numbers = np.unique(np.asarray(labels, dtype=object), return_inverse=True)[1]
    num_bits = codes.shape[1] * 8
    voted = np.zeros(len(queries), dtype=np.bool_)
    precision = np.zeros(len(queries))
    recall = {cutoff: np.zeros(len(queries), dtype=np.bool_) for cutoff in CUTOFFS if cutoff < len(codes)}
    for number, order, row in _rankings(codes, queries):
        own = queries[number]
        hits = [Hit("", int(row[place]), labels[place], {}, None) for place in order[:k]]
        voted[number] = vote(hits, num_bits)[0].label == labels[own]
        is_relevant = numbers[order] == numbers[own]
        precision[number] = average_precision(is_relevant)
        for cutoff, found in recall.items():
            found[number] = is_relevant[:cutoff].any()
    return Judged(voted, precision, recall)


def average_precision(is_relevant: npt.NDArray[np.bool_]) -> float:
    """Mean over the relevant items of the precision at their rank; `is_relevant` is by rank, bool [n]."""
    ranks = np.flatnonzero(is_relevant) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def is_found_first(queries: Codes, answers: Positions, codes: Codes) -> npt.NDArray[np.bool_]:
    """Whether the code nearest to each query is the one at its answer, bool [num_queries]."""
    found = [
        distances(queries[start:stop], codes).argmin(axis=1) == answers[start:stop]
        for start, stop in _blocks(len(queries), len(codes))
    ]
    return np.concatenate(found)


def mean_overlap(a: Positions, b: Positions) -> float:
    """Share of neighbours, [num_queries, k], that two models have in common, in any order."""
    k = a.shape[1]
    return float(np.mean([len(np.intersect1d(*rows)) / k for rows in zip(a, b, strict=True)]))


def constant_bits(codes: Codes) -> int:
    """Number of bits that are the same in all codes."""
    changing = np.bitwise_or.reduce(codes, axis=0) ^ np.bitwise_and.reduce(codes, axis=0)
    return int(codes.shape[1] * 8 - np.bitwise_count(changing).sum())


def bit_activity(codes: Codes) -> Floats:
    """Share of the codes in which each bit is 1, float64 [num_bits]."""
    ones = np.zeros(codes.shape[1] * 8, dtype=np.int64)
    for start in range(0, len(codes), _UNPACKED_ROWS):
        ones += unpack(codes[start : start + _UNPACKED_ROWS]).sum(axis=0, dtype=np.int64)
    return ones / len(codes)


def num_sharing_a_code(codes: Codes) -> int:
    """Number of images whose code another image has too."""
    counts = np.unique(codes, axis=0, return_counts=True)[1]
    return int(counts[counts > 1].sum())


def random_pairs(num_codes: int, count: int, random: np.random.Generator) -> tuple[Positions, Positions]:
    """Pairs of different positions, each int64 [count]."""
    first = random.integers(num_codes, size=count)
    return first, (first + random.integers(1, num_codes, size=count)) % num_codes


def paired_distances(codes: Codes, pairs: tuple[Positions, Positions]) -> Distances:
    """Hamming distance of each pair, int32 [num_pairs]."""
    differing = codes[pairs[0]] ^ codes[pairs[1]]
    found: Distances = np.bitwise_count(differing).sum(axis=1, dtype=np.int32)
    return found


def separation(near: npt.NDArray[np.generic], far: npt.NDArray[np.generic]) -> float:
    """Chance that one of `near` is below one of `far`, a tie being half of it (the area under the ROC)."""
    ordered = np.sort(far)
    below = ordered.searchsorted(near, "left")
    not_above = ordered.searchsorted(near, "right")
    return float(1 - (below + not_above).mean() / 2 / len(far))


def _rankings(codes: Codes, queries: Positions) -> Iterator[tuple[int, Positions, Distances]]:
    """For each query its number, the positions of all other codes by rank, and the distances of all."""
    # A stable sort of 16 bits is a radix sort, ten times as fast.
    kind = np.min_scalar_type(codes.shape[1] * 8)
    for start, stop in _blocks(len(queries), len(codes)):
        block = distances(codes[queries[start:stop]], codes)
        for number, row in enumerate(block, start):
            order = np.argsort(row.astype(kind), kind="stable")
            yield number, order[order != queries[number]], row


def _blocks(num_queries: int, num_codes: int) -> Iterator[tuple[int, int]]:
    step = max(_BLOCK_BYTES // (4 * num_codes), 1)
    for start in range(0, num_queries, step):
        yield start, min(start + step, num_queries)
