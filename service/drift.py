"""What the codes of a collection are like, from a sample of it, so that new images can be held against it.

Images of another kind than those a model was trained on, or than those a collection holds, lie farther from
their nearest items, and have other bits active: the sign that retraining is due.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from contracts.errors import StochConError
from index.protocol import Store

INTERVAL_S = 600.0
"""How often samples are taken anew."""

SAMPLE_ITEMS = 256
MAX_COMPARISONS = 5 * 10**8
"""Pairs of codes compared for one sample: a few seconds of one core."""

_MIN_SAMPLE_ITEMS = 4
_SEED = 0

_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class Baseline:
    """One collection, by a sample of it."""

    collection: str
    active_share: float
    """Share of bits that are 1."""
    nearest_distance_share: float
    """Mean distance of an item to its nearest other: bits that differ over bits."""


def measure(store: Store, collection: str, num_items: int) -> Baseline | None:
    """The baseline of a collection; None if it has fewer than two items. Raises NotFound."""
    model = store.model(collection)
    count = max(_MIN_SAMPLE_ITEMS, min(SAMPLE_ITEMS, MAX_COMPARISONS // max(1, num_items)))
    codes = store.sample(collection, count, _SEED)
    if num_items < 2 or not len(codes):
        return None
    num_bits = 8 * codes.shape[1]
    # Of two hits one is the item itself, or as good as it: another with the same code.
    distances = [result.hits[-1].distance for result in store.search(collection, codes, k=2)]
    if store.model(collection) != model:
        return None  # It was switched meanwhile, and the sample was of the generation before.
    return Baseline(
        collection=collection,
        active_share=float(np.bitwise_count(codes).sum()) / (len(codes) * num_bits),
        nearest_distance_share=float(np.mean(distances)) / num_bits,
    )


class Baselines:
    """The baselines of all collections, measured now and then in a thread of their own."""

    def __init__(self, store: Store, interval_s: float = INTERVAL_S) -> None:
        self._store = store
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._measured: Sequence[Baseline] = ()
        self._due_s = 0.0

    def latest(self) -> Sequence[Baseline]:
        """Those that were measured last; asking has them measured anew once they are old."""
        with self._lock:
            if time.monotonic() >= self._due_s:
                self._due_s = time.monotonic() + self._interval_s
                threading.Thread(target=self._measure, name="drift", daemon=True).start()
            return self._measured

    def _measure(self) -> None:
        try:
            infos = [(info.name, info.num_items) for info in self._store.collections()]
            found = [measure(self._store, name, num_items) for name, num_items in infos]
        except StochConError as exc:  # A collection was deleted, or the service is stopping.
            _log.info("baselines are not measured", reason=str(exc))
            return
        with self._lock:
            self._measured = [baseline for baseline in found if baseline is not None]
