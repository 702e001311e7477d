"""Checking a collection: the catalogue, the segment files, and what is searched, against one another."""

from contextlib import ExitStack

import numpy as np

from contracts.errors import BackendUnavailable, StoreCorrupt
from index.collection import Collection
from index.opening import rebuild, replay
from index.originals import Originals
from index.segment_files import SegmentDamaged
from index.segments import Segment
from index.transactions import Reader


def verify(collection: Collection) -> list[str]:
    """A line for each fault. Writes wait until it is done; searches go on."""
    faults: list[str] = []
    try:
        with collection.unchanging(), collection.catalog.reading() as reader:
            faults += reader.check()
            faults += _check_segments(collection, reader)
    except (StoreCorrupt, BackendUnavailable) as exc:
        faults.append(str(exc))
    return [f"collection {collection.name}: {fault}" for fault in faults]


def verify_originals(originals: Originals, collection: Collection, other: Collection | None) -> list[str]:
    """A line for each fault of the image files that are kept, or of how both generations name them.

    Writes wait, but not while the files are read. No fault of a collection that is deleted meanwhile.
    """
    faults: list[str] = []
    try:
        faults += originals.check_files()
        with ExitStack() as stack:
            generations = [generation for generation in (collection, other) if generation is not None]
            if not all(stack.enter_context(generation.gate.entered()) for generation in generations):
                return []
            stack.enter_context(collection.unchanging())
            named: set[int] = set()
            for generation in generations:
                with generation.catalog.reading() as reader:
                    named |= reader.originals()
            faults += originals.check_names(named)
    except (StoreCorrupt, BackendUnavailable) as exc:
        faults.append(str(exc))
    return [f"collection {collection.name}: {fault}" for fault in faults]


def _check_segments(collection: Collection, reader: Reader) -> list[str]:
    snapshot, faults = collection.current, []
    state = reader.state()
    if (snapshot.change, snapshot.next_slot, snapshot.num_live) != (
        state.change,
        state.next_slot,
        state.num_items,
    ):
        faults.append("what is searched is of another change than the catalogue: open the store again")
    from_files: dict[int, Segment] = {}
    for record in reader.segments():
        try:
            from_files[record.number] = collection.files.read(record)
        except SegmentDamaged as exc:
            faults.append(f"{exc}: open the store again, and it is rebuilt")
    from_files = replay(from_files, reader, collection.layout)
    slot = reader.next_occupied(0)
    while slot is not None:
        number = slot // collection.layout.segment_slots
        truth = rebuild(reader, number, state.next_slot, collection.layout)
        for what, segments in (("memory", snapshot.segments), ("its file", from_files)):
            if number in segments and not _agree(segments[number], truth):
                faults.append(
                    f"segment {number} in {what} differs from the catalogue: delete the folder "
                    f"{collection.files.folder} and open the store again"
                )
        if number not in snapshot.segments:
            faults.append(f"segment {number} is not searched: open the store again")
        slot = reader.next_occupied(truth.end_slot)
    return faults


def _agree(segment: Segment, truth: Segment) -> bool:
    offsets = truth.live_offsets()
    return (
        np.array_equal(segment.live, truth.live)
        and np.array_equal(segment.labelled_at(offsets), truth.labelled_at(offsets))
        and np.array_equal(segment.codes[offsets], truth.codes[offsets])
    )
