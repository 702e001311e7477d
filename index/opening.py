"""From a catalogue and its segment files to the snapshot that is searched."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from contracts.errors import StoreCorrupt
from index.catalog import Catalog
from index.segment_files import SegmentDamaged, SegmentFiles
from index.segments import Layout, Segment, Snapshot, build_segment
from index.transactions import Reader, SegmentRecord

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A collection's searchable form, and the segment files that it could use."""

    snapshot: Snapshot
    records: dict[int, SegmentRecord]


def load(catalog: Catalog, files: SegmentFiles, num_threads: int) -> Opened:
    """Read the segment files, replay what came after them, and rebuild the rest from the catalogue.

    Raises StoreCorrupt if the catalogue contradicts itself.
    """
    with catalog.reading() as reader:
        records = reader.segments()
        segments = replay(_read_files(files, records, num_threads), reader, catalog.layout)
        opened = _complete(catalog, reader, segments, records)
        num_items = reader.state().num_items
        if opened.snapshot.num_live != num_items:
            _logger.warning(
                "%s has %d items and its segment files %d: rebuilding them all",
                *(catalog.path, num_items, opened.snapshot.num_live),
            )
            opened = _complete(catalog, reader, {}, [])
    if opened.snapshot.num_live != num_items:
        raise StoreCorrupt(
            f"{catalog.path} says that it has {num_items} items and has {opened.snapshot.num_live}: "
            "restore the folder from a backup, or move it away and index again"
        )
    return opened


def rebuild(reader: Reader, number: int, next_slot: int, layout: Layout) -> Segment:
    """A segment from the catalogue alone."""
    first_slot = number * layout.segment_slots
    end_slot = min(first_slot + layout.segment_slots, next_slot)
    slots, codes, labelled = reader.codes(first_slot, end_slot, layout.code_bytes)
    return build_segment(number, layout, end_slot - first_slot, slots, codes, labelled)


def _read_files(
    files: SegmentFiles, records: Iterable[SegmentRecord], num_threads: int
) -> dict[int, Segment]:
    def read(record: SegmentRecord) -> Segment | None:
        try:
            return files.read(record)
        except SegmentDamaged as exc:
            _logger.warning("%s: rebuilding it from the catalogue", exc)
            return None

    with ThreadPoolExecutor(num_threads) as pool:
        return {segment.number: segment for segment in pool.map(read, records) if segment is not None}


def replay(segments: dict[int, Segment], reader: Reader, layout: Layout) -> dict[int, Segment]:
    """Kill the slots that died after the files were written."""
    for number, slots in layout.split(reader.deaths()).items():
        segment = segments.get(number)
        if segment is None:
            continue
        offsets = slots - segment.first_slot
        alive = np.isin(offsets, segment.live_offsets(), assume_unique=True)
        segments[number] = segment.without(offsets[alive])
    return segments


def _complete(
    catalog: Catalog, reader: Reader, segments: dict[int, Segment], records: list[SegmentRecord]
) -> Opened:
    """Add the segments that no file gave: the tail, and those whose file is missing or damaged."""
    state, layout = reader.state(), catalog.layout
    missing = set(_occupied(reader, layout)) - segments.keys()
    if state.next_slot % layout.segment_slots:
        missing.add(state.next_slot // layout.segment_slots)
    rebuilt = {number: rebuild(reader, number, state.next_slot, layout) for number in missing}
    everything = dict(sorted((segments | rebuilt).items()))
    snapshot = Snapshot(state.change, state.next_slot, layout, everything)
    return Opened(snapshot, {record.number: record for record in records if record.number in segments})


def _occupied(reader: Reader, layout: Layout) -> Iterable[int]:
    """Numbers of the segments that have an item."""
    slot = reader.next_occupied(0)
    while slot is not None:
        number = slot // layout.segment_slots
        yield number
        slot = reader.next_occupied((number + 1) * layout.segment_slots)
