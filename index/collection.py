"""One collection: its catalogue, what is searched, and the order in which the two change.

A write is committed to the catalogue, then published as a new snapshot, and acknowledged after both.
Snapshot and catalogue carry the same change number, so that a reader can pair them.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import numpy as np

from contracts.codes import Codes
from contracts.errors import BackendUnavailable, InvalidQuery, ModelMismatch, StoreCorrupt
from index.catalog import Catalog
from index.filters import Condition
from index.gate import Gate
from index.generations import collection_of
from index.items import is_id, to_row
from index.masks import Mask, Masks
from index.opening import load
from index.protocol import CollectionInfo, Item, ModelRef
from index.segment_files import SegmentFiles
from index.segments import Segment, Slots, Snapshot
from index.transactions import Reader, State, Writer

CATALOG_NAME = "catalog.sqlite"
SEGMENTS_NAME = "segments"
_MAX_DEAD_SHARE = 0.5
_MAX_ATTEMPTS = 100

_logger = logging.getLogger(__name__)


class Collection:
    """An open collection. Safe to call from many threads: writes queue, reads never wait for them."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        """Open the collection kept in `folder`. Raises StoreCorrupt, BackendUnavailable."""
        self.folder = folder
        self.gate = Gate()
        self.catalog = Catalog(folder / CATALOG_NAME)
        try:
            self.model = self.catalog.model
            self.layout = self.catalog.layout
            self.files = SegmentFiles(folder / SEGMENTS_NAME, self.catalog.collection_id, self.layout)
            opened = load(self.catalog, self.files, num_threads)
        except BaseException:
            self.catalog.close()
            raise
        self._current = opened.snapshot
        self._pending = opened.snapshot
        self._records = opened.records
        self._masks = Masks()
        # Segments that may have to be written or compacted.
        self._due = set(opened.snapshot.segments)
        self._write_lock = threading.Lock()
        with self._write_lock:
            self.files.delete_others(list(self._records.values()))
            self._maintain()

    @property
    def name(self) -> str:
        return collection_of(self.folder.name)

    def upsert(self, items: Sequence[Item]) -> None:
        """Insert or replace items, all or nothing; the last one of an id wins. Raises InvalidItem."""
        latest = {item.id: item for item in items if isinstance(item.id, str)}
        rows = [to_row(item, self.layout.code_bytes) for item in items]
        if len(latest) < len(rows):
            rows = list({row[0]: row for row in rows}.values())
        if not rows:
            return
        codes = np.frombuffer(b"".join([row[1] for row in rows]), dtype=np.uint8).reshape(len(rows), -1)
        labelled = np.array([row[2] is not None for row in rows])
        counts = Counter(chain.from_iterable(item.metadata for item in latest.values()))
        num_with_field = {f"metadata.{key}": count for key, count in counts.items()}
        num_labelled = int(labelled.sum())
        if num_labelled:
            num_with_field["label"] = num_labelled
        ids = [row[0] for row in rows]
        with self._write_lock:
            with self.catalog.writing() as writer:
                replaced = writer.slots_of(ids)
                num_labelled -= writer.remove(replaced)
                writer.insert(self._current.next_slot, rows, num_with_field)
                after = self._current.with_changes(codes, labelled, replaced)
                self._prepare(writer, after, len(rows) - len(replaced), num_labelled)
            self._publish(after, replaced)
            self._maintain()

    def delete(self, ids: Sequence[str]) -> int:
        """Delete those of `ids` that are there and return how many."""
        valid = [item_id for item_id in ids if is_id(item_id)]
        no_codes, no_flags = np.empty((0, self.layout.code_bytes), np.uint8), np.empty(0, np.bool_)
        with self._write_lock:
            with self.catalog.writing() as writer:
                slots = writer.slots_of(valid)
                if not len(slots):
                    return 0
                num_labelled = writer.remove(slots)
                after = self._current.with_changes(no_codes, no_flags, slots)
                self._prepare(writer, after, -len(slots), -num_labelled)
            self._publish(after, slots)
            self._maintain()
            return len(slots)

    def get(self, ids: Sequence[str]) -> list[Item | None]:
        """Items in the order of `ids`, None where there is none."""
        with self.catalog.reading() as reader:
            found = reader.items([item_id for item_id in ids if is_id(item_id)])
        return [found.get(item_id) for item_id in ids]

    def list_items(self, after: str | None, limit: int) -> list[Item]:
        """Items by the UTF-8 bytes of their ids, from the first above `after`. Raises InvalidQuery."""
        if limit < 1:
            raise InvalidQuery(f"the limit of the list is {limit}: give 1 or more")
        with self.catalog.reading() as reader:
            return reader.page(after, limit)

    def info(self) -> CollectionInfo:
        """What the collection holds and costs."""
        with self.catalog.reading() as reader:
            state = reader.state()
        memory_bytes = sum(segment.memory_bytes for segment in self._current.segments.values())
        return CollectionInfo(
            name=self.name,
            model=self.model,
            num_items=state.num_items,
            num_labelled=state.num_labelled,
            disk_bytes=_disk_bytes(self.folder),
            memory_bytes=memory_bytes + self._masks.memory_bytes,
        )

    def check_model(self, model: ModelRef) -> None:
        """Raise ModelMismatch unless the collection keeps codes of `model`."""
        if model.id != self.model.id or model.num_bits != self.model.num_bits:
            raise ModelMismatch(
                f"collection {self.name!r} keeps codes of model {_describe(self.model)} and these are of "
                f"model {_describe(model)}: encode with the collection's model, or use another collection"
            )

    def sample(self, count: int, rng: np.random.Generator) -> Codes:
        """Codes of items drawn at random, with replacement: uint8 [count, num_bytes]; none if it is empty."""
        snapshot = self._current
        segments = [segment for segment in snapshot.segments.values() if segment.num_live]
        if not segments:
            return np.empty((0, self.layout.code_bytes), dtype=np.uint8)
        num_live = np.array([segment.num_live for segment in segments])
        chosen = rng.choice(len(segments), size=count, p=num_live / num_live.sum())
        parts = []
        for number, times in zip(*np.unique(chosen, return_counts=True), strict=True):
            segment = segments[number]
            parts.append(segment.codes[rng.choice(segment.live_offsets(), size=times)])
        return np.concatenate(parts)

    @property
    def current(self) -> Snapshot:
        """What is searched now."""
        return self._current

    @contextmanager
    def moment(self) -> Iterator[tuple[Reader, Snapshot]]:
        """A read transaction, and the snapshot of the very same change. Raises StoreCorrupt."""
        for _ in range(_MAX_ATTEMPTS):
            with self.catalog.reading() as reader:
                change = reader.state().change
                for snapshot in (self._current, self._pending):
                    if snapshot.change == change:
                        yield reader, snapshot
                        return
            # Two writes went by between the two lines above; look again.
        raise StoreCorrupt(
            f"{self.catalog.path} is at change {change} and memory is not: another program has written "
            "to it; open the store again"
        )

    def mask(self, condition: Condition, reader: Reader, snapshot: Snapshot) -> Mask:
        """Slots that meet a filter, at one `moment`. Raises InvalidQuery for a field that no item has."""
        for name in sorted(condition.fields):
            if not reader.has_field(name):
                raise InvalidQuery(
                    f"no item of collection {self.name!r} has the field {name!r} of the filter: check its "
                    "spelling, or leave it out"
                )
        return self._masks.get(condition, reader, snapshot)

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Hold back writes for a while; reads go on."""
        with self._write_lock:
            yield

    def close(self) -> None:
        """Wait for calls under way, then close the files."""
        self.gate.shut()
        with self._write_lock:
            self.catalog.close()

    def _prepare(self, writer: Writer, after: Snapshot, num_items: int, num_labelled: int) -> None:
        """Last step before a commit: from the commit on, readers may pair it with `after`."""
        before = writer.state()
        writer.set_state(
            State(
                change=after.change,
                next_slot=after.next_slot,
                num_items=before.num_items + num_items,
                num_labelled=before.num_labelled + num_labelled,
            )
        )
        self._pending = after

    def _publish(self, after: Snapshot, dead: Slots) -> None:
        """First step after a commit."""
        segment_slots = self.layout.segment_slots
        self._due.update(self.layout.split(dead))
        self._due.update(range(self._current.next_slot // segment_slots, after.next_slot // segment_slots))
        self._current = after

    def _maintain(self) -> None:
        """Write the segments that became full and compact one that is mostly dead, then see to the WAL.

        Whatever goes wrong here, the items are safe in the catalogue: it is logged and tried again.
        """
        try:
            for number in sorted(self._due):
                segment = self._current.segments.get(number)
                if segment is not None and segment.is_full:
                    if segment.num_live <= (1 - _MAX_DEAD_SHARE) * segment.size:
                        self._compact(segment)
                        if segment.num_live:
                            break  # One a write, so that no write waits for long.
                    elif number not in self._records:
                        self._seal(segment)
                self._due.discard(number)
            self.catalog.database.limit_wal()
        except (BackendUnavailable, StoreCorrupt) as exc:
            _logger.warning("upkeep of collection %s is put off: %s", self.name, exc)

    def _seal(self, segment: Segment) -> None:
        """Write the file of a full segment, and then count it."""
        record = self.files.write(segment, self._current.change)
        with self.catalog.writing() as writer:
            writer.record_segment(record, segment.first_slot, segment.end_slot)
        self._records[segment.number] = record

    def _compact(self, segment: Segment) -> None:
        """Move what is alive in a full segment to new slots, in one transaction, and drop the segment."""
        offsets = segment.live_offsets()
        slots = offsets + segment.first_slot
        labelled = segment.labelled_at(offsets)
        with self.catalog.writing() as writer:
            writer.move(slots, self._current.next_slot)
            writer.forget_segment(segment.number, segment.first_slot, segment.end_slot)
            after = self._current.with_changes(segment.codes[offsets], labelled, slots)
            after = after.without_segment(segment.number)
            self._prepare(writer, after, 0, 0)
        self._publish(after, np.empty(0, np.int64))
        record = self._records.pop(segment.number, None)
        if record is not None:
            self.files.delete(record)


def _disk_bytes(folder: Path) -> int:
    """Bytes that the files of `folder` take on the disk, in whole blocks."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # A segment file that compaction has just deleted.
            total += path.stat().st_blocks * 512
    return total


def _describe(model: ModelRef) -> str:
    return f"{model.name!r} ({model.num_bits} bits, id {model.id[:12]})"
