"""From queries to hits: ranking in memory, then the items' own data from the catalogue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.codes import Codes
from contracts.errors import InvalidQuery
from index.collection import Collection
from index.filters import Condition
from index.items import to_metadata
from index.masks import Mask
from index.posterior import Posterior
from index.protocol import MAX_K, Hit, SearchResult
from index.search import Searcher
from index.segments import Slots, Snapshot
from index.transactions import Payload

_RESCORE_DEPTH = 1000
"""Nearest codes that a re-ranked answer starts from, at least."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The slots that answer one query, in the order of `scores`, ties in any order."""

    slots: Slots
    distances: npt.NDArray[np.int32]
    scores: npt.NDArray[Any]
    truncated: bool
    certified: bool | None = None


_Rank = Callable[[Snapshot, Mask | None], list[_Ranked]]


def nearest(
    collection: Collection,
    searcher: Searcher,
    queries: Codes,
    *,
    k: int,
    radius: int | None,
    condition: Condition | None,
    labelled_only: bool,
) -> list[SearchResult]:
    """The nearest items of each of `queries` [num_queries, num_bytes]. Raises InvalidQuery."""
    num_bits = collection.model.num_bits
    _check_limits(k, radius, num_bits)
    queries = np.asarray(queries)
    if queries.dtype != np.uint8 or queries.ndim != 2 or queries.shape[1] != collection.layout.code_bytes:
        raise InvalidQuery(
            f"the queries are {queries.dtype} {list(queries.shape)}: give uint8 "
            f"[n, {collection.layout.code_bytes}], codes of {num_bits} bits of the collection's model"
        )

    def rank(snapshot: Snapshot, mask: Mask | None) -> list[_Ranked]:
        # One more than asked for tells whether the radius holds more.
        wanted = k if radius is None else k + 1
        found = searcher.search(snapshot, queries, wanted, labelled_only=labelled_only, mask=mask)
        return [
            _within(slots, distances, k, radius)
            for slots, distances in zip(found.slots, found.distances, strict=True)
        ]

    return _answer(collection, condition, rank)


def rescored(
    collection: Collection,
    searcher: Searcher,
    logits: npt.ArrayLike,
    *,
    k: int,
    radius: int | None,
    condition: Condition | None,
) -> SearchResult:
    """The items nearest by expected distance under the posterior of `logits` [num_bits].

    Raises InvalidQuery.
    """
    num_bits = collection.model.num_bits
    _check_limits(k, radius, num_bits)
    values = np.asarray(logits)
    if values.shape != (num_bits,) or not np.issubdtype(values.dtype, np.floating) or np.isnan(values).any():
        raise InvalidQuery(
            f"the logits are {values.dtype} {list(values.shape)}: give {num_bits} floats, none of them NaN, "
            "of the collection's model"
        )
    posterior = Posterior(values)
    depth = max(_RESCORE_DEPTH, 2 * k)

    def rank(snapshot: Snapshot, mask: Mask | None) -> list[_Ranked]:
        found = searcher.search(snapshot, posterior.code[None], depth, mask=mask)
        near = found.slots[0] >= 0
        if radius is not None:
            near &= found.distances[0] <= radius
        slots, distances = found.slots[0][near], found.distances[0][near]
        expected = posterior.expected_distances(snapshot.codes_at(slots))
        best = np.argsort(expected, kind="stable")[:k]
        # Fewer than the search could give: every item that qualifies is among them.
        certified = len(slots) < depth or bool(
            expected[best[-1]] <= posterior.lower_bound(int(distances[-1]))
        )
        truncated = radius is not None and len(slots) > k
        return [_Ranked(slots[best], distances[best], expected[best], truncated, certified)]

    return _answer(collection, condition, rank)[0]


def _check_limits(k: int, radius: int | None, num_bits: int) -> None:
    if not 1 <= k <= MAX_K:
        raise InvalidQuery(f"k is {k}: give 1 to {MAX_K}")
    if radius is not None and not 0 <= radius <= num_bits:
        raise InvalidQuery(f"the radius is {radius}: give 0 to {num_bits}, the bits of a code")


def _within(slots: Slots, distances: npt.NDArray[np.int32], k: int, radius: int | None) -> _Ranked:
    near = slots >= 0
    if radius is not None:
        near &= distances <= radius
    slots, distances = slots[near], distances[near]
    truncated = radius is not None and len(slots) > k
    return _Ranked(slots[:k], distances[:k], distances[:k], truncated)


def _answer(collection: Collection, condition: Condition | None, rank: _Rank) -> list[SearchResult]:
    """Rank, then look the items up.

    A search takes long beside a look-up, so no transaction spans it: the WAL could not be reset under
    constant searching. If an item found has gone meanwhile, the answer is worked out again within one.
    """
    mask = None
    if condition is None:
        snapshot = collection.current
    else:
        with collection.moment() as (reader, snapshot):
            mask = collection.mask(condition, reader, snapshot)
    ranked = rank(snapshot, mask)
    slots = {slot for one in ranked for slot in one.slots.tolist()}
    with collection.catalog.reading() as reader:
        payloads = reader.payloads(slots)
    if len(payloads) < len(slots):
        with collection.moment() as (reader, snapshot):
            mask = None if condition is None else collection.mask(condition, reader, snapshot)
            ranked = rank(snapshot, mask)
            payloads = reader.payloads({slot for one in ranked for slot in one.slots.tolist()})
    return [_to_result(one, payloads) for one in ranked]


def _to_result(ranked: _Ranked, payloads: dict[int, Payload]) -> SearchResult:
    rows: Sequence[tuple[Any, str, int, Payload]] = sorted(
        (score, payloads[slot][0], distance, payloads[slot])
        for slot, distance, score in zip(
            ranked.slots.tolist(), ranked.distances.tolist(), ranked.scores.tolist(), strict=True
        )
    )
    hits = [
        Hit(item_id, distance, label, to_metadata(metadata), uri)
        for _, _, distance, (item_id, label, metadata, uri) in rows
    ]
    return SearchResult(hits, ranked.truncated, exact=True, certified=ranked.certified)
