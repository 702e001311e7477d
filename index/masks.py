"""Filters as bitmaps, kept between searches.

A slot's item never changes, so neither does whether it meets a filter: a bitmap once worked out stays
right for its slots, and only newer slots have to be asked for. Slots that died since do no harm, since
a search leaves out the dead anyway.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from index.filters import Condition
from index.segments import Bitmap, Snapshot, with_bits
from index.transactions import Reader

Mask = Mapping[int, Bitmap]
"""By segment number; segments without a matching slot are left out."""

_MAX_MASKS = 32


@dataclass(frozen=True, slots=True)
class _Known:
    change: int
    next_slot: int
    mask: Mask


class Masks:
    """The masks of the filters used last."""

    def __init__(self) -> None:
        self._known: OrderedDict[Condition, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, condition: Condition, reader: Reader, snapshot: Snapshot) -> Mask:
        """Which slots of `snapshot` meet `condition`. `reader` must read the same change."""
        with self._lock:
            known = self._known.get(condition)
        # A mask of a later change lacks slots that were still alive at this one.
        if known is None or known.change > snapshot.change:
            known = _Known(snapshot.change, 0, {})
        mask = _extend(known, condition, reader, snapshot)
        with self._lock:
            latest = self._known.get(condition)
            if latest is None or latest.change <= snapshot.change:
                self._known[condition] = _Known(snapshot.change, snapshot.next_slot, mask)
            self._known.move_to_end(condition)
            if len(self._known) > _MAX_MASKS:
                self._known.popitem(last=False)
        return mask

    @property
    def memory_bytes(self) -> int:
        """Bytes that the masks take."""
        with self._lock:
            return sum(bitmap.nbytes for known in self._known.values() for bitmap in known.mask.values())


def _extend(known: _Known, condition: Condition, reader: Reader, snapshot: Snapshot) -> Mask:
    mask = {number: bitmap for number, bitmap in known.mask.items() if number in snapshot.segments}
    slots = reader.matching_slots(condition, known.next_slot, snapshot.next_slot)
    for number, members in snapshot.layout.split(slots).items():
        bitmap = mask.get(number)
        if bitmap is None:
            bitmap = np.zeros(snapshot.layout.bitmap_bytes, dtype=np.uint8)
        mask[number] = with_bits(bitmap, members - snapshot.segments[number].first_slot, True)
    return mask
