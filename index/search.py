"""Exact Hamming search over the segments of a snapshot, on a pool of threads.

FAISS's kernel is called on the segments' own memory: nothing is copied, and nothing FAISS keeps has to
change under a running search. FAISS shares out queries but not codes, so one query would use one core;
here the threads share out the segments instead, each with OpenMP held to one thread.
"""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from contracts.codes import Codes
from index.segments import Bitmap, Segment, Snapshot

Distances = npt.NDArray[np.int32]
Slots = npt.NDArray[np.int64]

_BLOCK_CODES = 2048
"""Codes that FAISS passes over with a batch of queries at a time: 512 KiB of 2048-bit codes stay in cache."""
_SMALL_PIECE_SLOTS = 2**14
"""A query over pieces of this size takes 8 % more processor time than over whole segments."""
_MERGE_PIECES = 16


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest slots of each query, nearest first."""

    distances: Distances
    """int32 [num_queries, n]"""
    slots: Slots
    """int64 [num_queries, n]; -1 past the last one found."""


@dataclass(frozen=True, slots=True)
class _Piece:
    segment: Segment
    start: int
    end: int
    allowed: Bitmap | None
    """Bits from `start` on; None where every slot is."""


class Searcher:
    """Threads that search. One serves all collections of a store, so that they cannot crowd each other."""

    def __init__(self, num_threads: int) -> None:
        faiss.cvar.hamming_batch_size = _BLOCK_CODES
        self.num_threads = num_threads
        self._pool = ThreadPoolExecutor(
            num_threads,
            thread_name_prefix="search",
            # Holds for calls from this thread only: OpenMP keeps the number for each calling thread.
            initializer=lambda: faiss.omp_set_num_threads(1),
        )

    def search(
        self,
        snapshot: Snapshot,
        queries: Codes,
        k: int,
        *,
        labelled_only: bool = False,
        mask: Mapping[int, Bitmap] | None = None,
    ) -> Nearest:
        """The `k` nearest live slots of each of `queries` [num_queries, num_bytes].

        `mask`, by segment number, leaves out every slot whose bit is 0 or whose segment is missing.
        """
        queries = np.ascontiguousarray(queries)
        pieces = self._pieces(snapshot, labelled_only, mask)
        num_workers = min(self.num_threads, len(pieces))
        work = [self._pool.submit(_search_pieces, pieces, queries, k) for _ in range(num_workers)]
        return _merge([_nothing(len(queries)), *(future.result() for future in work)], k)

    def close(self) -> None:
        """Stop the threads once they have finished."""
        self._pool.shutdown()

    def _pieces(
        self, snapshot: Snapshot, labelled_only: bool, mask: Mapping[int, Bitmap] | None
    ) -> deque[_Piece]:
        """Runs of slots to search: whole segments, the last few cut up so that all threads end together."""
        chosen: list[tuple[Segment, Bitmap | None]] = []
        for segment in snapshot.segments.values():
            if not segment.num_live or (mask is not None and segment.number not in mask):
                continue
            allowed = _allowed(segment, labelled_only, None if mask is None else mask[segment.number])
            if allowed is None or allowed.any():
                chosen.append((segment, allowed))
        pieces: deque[_Piece] = deque()
        for position, (segment, allowed) in enumerate(chosen):
            is_late = position >= len(chosen) - self.num_threads
            length = _SMALL_PIECE_SLOTS if is_late else segment.size
            for start in range(0, segment.size, length):
                end = min(start + length, segment.size)
                bits = None if allowed is None else allowed[start // 8 : -(-end // 8)]
                pieces.append(_Piece(segment, start, end, bits))
        return pieces


def _allowed(segment: Segment, labelled_only: bool, mask: Bitmap | None) -> Bitmap | None:
    """The slots that may be found; None when that is all, so that the kernel need not ask."""
    if mask is None and not labelled_only and segment.num_live == segment.size:
        return None
    allowed = segment.live
    if labelled_only:
        allowed = allowed & segment.labelled
    return allowed if mask is None else allowed & mask


def _search_pieces(pieces: deque[_Piece], queries: Codes, k: int) -> Nearest:
    """Search pieces until none is left; other threads take from the same queue."""
    found = [_nothing(len(queries))]
    while True:
        try:
            piece = pieces.popleft()
        except IndexError:
            return _merge(found, k)
        found.append(_search_piece(piece, queries, k))
        if len(found) > _MERGE_PIECES:
            found = [_merge(found, k)]


def _search_piece(piece: _Piece, queries: Codes, k: int) -> Nearest:
    codes = piece.segment.codes[piece.start : piece.end]
    k = min(k, len(codes))
    distances = np.empty((len(queries), k), dtype=np.int32)
    offsets = np.empty((len(queries), k), dtype=np.int64)
    heap = faiss.int_maxheap_array_t()
    heap.nh, heap.k = len(queries), k
    heap.val, heap.ids = faiss.swig_ptr(distances), faiss.swig_ptr(offsets)
    # The selector holds a copy of the pointer only: `piece` keeps its bits alive.
    selector = None if piece.allowed is None else faiss.IDSelectorBitmap(piece.allowed)
    faiss.hammings_knn_hc(
        heap,
        faiss.swig_ptr(queries),
        faiss.swig_ptr(codes),
        len(codes),
        codes.shape[1],
        1,  # Sorted by distance.
        faiss.EXACT_TOPK,
        selector,
    )
    base = piece.segment.first_slot + piece.start
    return Nearest(distances, np.where(offsets < 0, -1, offsets + base))


def _merge(found: list[Nearest], k: int) -> Nearest:
    if len(found) == 2 and not found[0].slots.shape[1]:
        return found[1]
    distances = np.concatenate([part.distances for part in found], axis=1)
    slots = np.concatenate([part.slots for part in found], axis=1)
    # Places without a slot carry the largest distance, so they sort to the end.
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Nearest(np.take_along_axis(distances, order, axis=1), np.take_along_axis(slots, order, axis=1))


def _nothing(num_queries: int) -> Nearest:
    return Nearest(np.empty((num_queries, 0), dtype=np.int32), np.empty((num_queries, 0), dtype=np.int64))
