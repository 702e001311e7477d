"""What is searched: codes by slot in fixed ranges, and which slots are alive.

A segment is one range of slots, of the same length in all of a collection; a snapshot is all segments
at one change of the collection. Both are values: a change makes a new snapshot that shares what it did
not touch, so searches need no lock and never see a change half made. Codes alone are written in place,
by the one writer, past the end that any published segment admits to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.codes import Codes

Bitmap = npt.NDArray[np.uint8]
"""uint8 [segment_slots / 8]: bit i of byte j, least significant first, is for slot 8 j + i of a segment."""
Slots = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SEGMENT_SLOTS = 2**16
"""Of new collections. 16 MiB of 2048-bit codes: large for the kernel, small to share among threads."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a collection's slots are divided; fixed when it is made."""

    code_bytes: int
    segment_slots: int = SEGMENT_SLOTS
    """A multiple of 8."""

    @property
    def bitmap_bytes(self) -> int:
        return self.segment_slots // 8

    def split(self, slots: Slots) -> dict[int, Slots]:
        """`slots` by the number of their segment, both ascending."""
        if not len(slots):
            return {}
        ordered = np.sort(slots)
        starts = np.flatnonzero(np.diff(ordered // self.segment_slots)) + 1
        groups = np.split(ordered, starts)
        return {int(group[0]) // self.segment_slots: group for group in groups}


@dataclass(frozen=True, slots=True)
class Segment:
    """The slots [number * segment_slots, ... + size)."""

    number: int
    size: int
    """Slots in use, dead ones included."""
    num_live: int
    codes: Codes
    """uint8 [segment_slots, num_bits / 8]"""
    live: Bitmap
    labelled: Bitmap
    """Whether the slot's item had a label when it was written; says nothing about dead slots."""

    @property
    def first_slot(self) -> int:
        return self.number * len(self.codes)

    @property
    def end_slot(self) -> int:
        """End of its range, whether in use or not."""
        return self.first_slot + len(self.codes)

    @property
    def is_full(self) -> bool:
        return self.size == len(self.codes)

    @property
    def memory_bytes(self) -> int:
        """Codes in use and both bitmaps: pages of codes never written take no memory."""
        return self.size * int(self.codes.shape[1]) + self.live.nbytes + self.labelled.nbytes

    def live_offsets(self) -> Slots:
        """Offsets of the live slots from the first one: int64 [num_live], ascending."""
        return np.flatnonzero(np.unpackbits(self.live, bitorder="little"))

    def labelled_at(self, offsets: Slots) -> Flags:
        """Whether the live slots at `offsets` have labels: bool [n]."""
        return np.unpackbits(self.labelled, bitorder="little")[offsets].astype(np.bool_)

    def append(self, codes: Codes, labelled: Flags) -> "Segment":
        """With more slots in use. Only the latest version of a segment may be appended to."""
        end = self.size + len(codes)
        self.codes[self.size : end] = codes
        added = np.arange(self.size, end)
        return replace(
            self,
            size=end,
            num_live=self.num_live + len(codes),
            live=with_bits(self.live, added, True),
            labelled=with_bits(self.labelled, added[labelled], True),
        )

    def without(self, offsets: Slots) -> "Segment":
        """With the slots at `offsets` dead. They must be alive."""
        return replace(self, num_live=self.num_live - len(offsets), live=with_bits(self.live, offsets, False))


def empty_segment(number: int, layout: Layout) -> Segment:
    """A segment with no slot in use."""
    codes = np.empty((layout.segment_slots, layout.code_bytes), dtype=np.uint8)
    nothing = np.zeros(layout.bitmap_bytes, dtype=np.uint8)
    return Segment(number, 0, 0, codes, nothing, nothing)


def build_segment(
    number: int, layout: Layout, size: int, slots: Slots, codes: Codes, labelled: Flags
) -> Segment:
    """A segment with `size` slots in use, of which only `slots` [n] with `codes` [n, num_bytes] are alive."""
    segment = empty_segment(number, layout)
    offsets = slots - segment.first_slot
    segment.codes[:size] = 0
    segment.codes[offsets] = codes
    return replace(
        segment,
        size=size,
        num_live=len(offsets),
        live=with_bits(segment.live, offsets, True),
        labelled=with_bits(segment.labelled, offsets[labelled], True),
    )


def with_bits(bitmap: Bitmap, offsets: Slots, value: bool) -> Bitmap:
    """A copy with the bits at `offsets` set or cleared."""
    bits = np.unpackbits(bitmap, bitorder="little")
    bits[offsets] = value
    return np.packbits(bits, bitorder="little")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The searchable form of a collection as of one change."""

    change: int
    next_slot: int
    layout: Layout
    segments: Mapping[int, Segment]
    """By number, ascending. Ranges without a live slot may be missing."""

    @property
    def num_live(self) -> int:
        return sum(segment.num_live for segment in self.segments.values())

    def with_changes(self, codes: Codes, labelled: Flags, dead: Slots) -> "Snapshot":
        """The next snapshot: `dead` slots killed, then `codes` [n, num_bytes] appended."""
        segments = dict(self.segments)
        for number, slots in self.layout.split(dead).items():
            segments[number] = segments[number].without(slots - segments[number].first_slot)
        next_slot, done = self.next_slot, 0
        while done < len(codes):
            number, offset = divmod(next_slot, self.layout.segment_slots)
            count = min(self.layout.segment_slots - offset, len(codes) - done)
            segment = segments.get(number) or empty_segment(number, self.layout)
            assert segment.size == offset
            part = slice(done, done + count)
            segments[number] = segment.append(codes[part], labelled[part])
            next_slot, done = next_slot + count, done + count
        return Snapshot(self.change + 1, next_slot, self.layout, segments)

    def without_segment(self, number: int) -> "Snapshot":
        """The same change, without a full segment in which nothing is alive."""
        assert self.segments[number].is_full
        assert not self.segments[number].num_live
        segments = {key: value for key, value in self.segments.items() if key != number}
        return replace(self, segments=segments)

    def codes_at(self, slots: Slots) -> Codes:
        """Codes of `slots` [n], which must lie in its segments: uint8 [n, num_bytes]."""
        codes = np.empty((len(slots), self.layout.code_bytes), dtype=np.uint8)
        numbers = slots // self.layout.segment_slots
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            segment = self.segments[number]
            codes[chosen] = segment.codes[slots[chosen] - segment.first_slot]
        return codes
