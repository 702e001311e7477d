import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.segments import Layout, Snapshot, build_segment, empty_segment, with_bits

LAYOUT = Layout(code_bytes=4, segment_slots=16)


def codes(*values: int) -> np.ndarray:
    return np.array([[value] * 4 for value in values], dtype=np.uint8)


def flags(*values: bool) -> np.ndarray:
    return np.array(values, dtype=np.bool_)


NO_SLOTS = np.empty(0, np.int64)
EMPTY = Snapshot(0, 0, LAYOUT, {})


def live_codes(snapshot: Snapshot) -> dict[int, int]:
    """slot -> first byte of its code"""
    return {
        segment.first_slot + offset: int(segment.codes[offset, 0])
        for segment in snapshot.segments.values()
        for offset in segment.live_offsets().tolist()
    }


@given(st.lists(st.booleans(), min_size=16, max_size=16), st.sets(st.integers(0, 15)), st.booleans())
def test_with_bits_sets_and_clears_in_a_copy(bits: list[bool], offsets: set[int], value: bool) -> None:
    bitmap = np.packbits(bits, bitorder="little")
    before = bitmap.copy()
    result = with_bits(bitmap, np.array(sorted(offsets), dtype=np.int64), value)
    expected = [value if i in offsets else bit for i, bit in enumerate(bits)]
    assert [bool(result[i // 8] >> (i % 8) & 1) for i in range(16)] == expected
    assert np.array_equal(bitmap, before)


def test_appending_crosses_segments() -> None:
    snapshot = EMPTY.with_changes(codes(*range(40)), flags(*[i % 3 == 0 for i in range(40)]), NO_SLOTS)
    assert [segment.size for segment in snapshot.segments.values()] == [16, 16, 8]
    assert live_codes(snapshot) == {i: i for i in range(40)}
    assert snapshot.segments[2].labelled_at(np.arange(8)).tolist() == [i % 3 == 0 for i in range(32, 40)]
    assert (snapshot.change, snapshot.next_slot, snapshot.num_live) == (1, 40, 40)


def test_an_older_snapshot_does_not_see_later_changes() -> None:
    first = EMPTY.with_changes(codes(1, 2, 3), flags(True, True, True), NO_SLOTS)
    second = first.with_changes(codes(4), flags(False), np.array([1]))
    assert live_codes(first) == {0: 1, 1: 2, 2: 3}
    assert live_codes(second) == {0: 1, 2: 3, 3: 4}
    assert first.segments[0].size == 3


def test_a_change_that_was_not_kept_is_overwritten() -> None:
    first = EMPTY.with_changes(codes(1), flags(False), NO_SLOTS)
    first.with_changes(codes(7, 8), flags(True, True), NO_SLOTS)  # Its commit failed, say.
    second = first.with_changes(codes(2), flags(False), NO_SLOTS)
    assert live_codes(second) == {0: 1, 1: 2}
    assert second.segments[0].labelled_at(np.array([0, 1])).tolist() == [False, False]


def test_codes_are_found_by_slot_in_any_order() -> None:
    snapshot = EMPTY.with_changes(codes(*range(40)), flags(*[False] * 40), NO_SLOTS)
    slots = np.array([39, 0, 16, 15, 16])
    assert snapshot.codes_at(slots)[:, 0].tolist() == slots.tolist()


def test_a_segment_is_built_with_holes() -> None:
    segment = build_segment(1, LAYOUT, 10, np.array([17, 25]), codes(5, 6), flags(True, False))
    assert segment.live_offsets().tolist() == [1, 9]
    assert segment.labelled_at(np.array([1, 9])).tolist() == [True, False]
    assert segment.codes[[1, 9], 0].tolist() == [5, 6]
    assert not segment.codes[[0, 2, 8]].any()
    assert (segment.first_slot, segment.end_slot, segment.is_full, segment.num_live) == (16, 32, False, 2)


def test_memory_counts_codes_in_use_and_bitmaps() -> None:
    segment = empty_segment(0, LAYOUT).append(codes(1, 2, 3), flags(True, True, True))
    assert segment.memory_bytes == 3 * 4 + 2 + 2


def test_slots_are_split_by_segment() -> None:
    split = LAYOUT.split(np.array([33, 0, 15, 16, 32]))
    assert {number: slots.tolist() for number, slots in split.items()} == {0: [0, 15], 1: [16], 2: [32, 33]}
    assert LAYOUT.split(NO_SLOTS) == {}


def test_only_a_dead_and_full_segment_can_go() -> None:
    snapshot = EMPTY.with_changes(codes(*range(17)), flags(*[False] * 17), NO_SLOTS)
    with pytest.raises(AssertionError):
        snapshot.without_segment(0)
    snapshot = snapshot.with_changes(np.empty((0, 4), np.uint8), flags(), np.arange(16))
    assert list(snapshot.without_segment(0).segments) == [1]
