"""Segment files: a cache of codes that makes opening fast.

A file is written once, under a name that holds its change number, and never altered. Order of a
write: the whole file as `.part`, fsync, rename, fsync of the folder, and only then the catalogue's record
of it. A crash in between leaves a file that no record names, which the next opening deletes. A file
counts only if its header and checksum agree with the catalogue's record.

    offset  bytes
         0      8  magic "STOCHSEG"
         8      4  format version, little-endian as all numbers here
        12      4  num_bits
        16      4  slots in the range
        20      4  CRC-32 of everything else: bytes 0 to 19, then 24 to the end
        24      8  first slot
        32      8  change number
        40     16  id of the collection
        56      8  zero
        64         bitmap: slot alive at that change
                   bitmap: slot labelled
                   codes by slot
"""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from contracts.errors import BackendUnavailable
from index.files import sync_folder
from index.segments import Layout, Segment
from index.transactions import SegmentRecord

_MAGIC, _VERSION = b"STOCHSEG", 1
_HEADER = struct.Struct("<8sIIIIQQ16s8x")
_CHECKSUM_AT, _CHECKSUM_END = 20, 24


class SegmentDamaged(Exception):
    """A segment file that is missing, torn, altered or another's. Its codes are still in the catalogue."""


class SegmentFiles:
    """The segment files of one collection, in a folder of their own."""

    def __init__(self, folder: Path, collection_id: bytes, layout: Layout) -> None:
        folder.mkdir(exist_ok=True)  # To delete it is a way to have every file made again.
        self.folder = folder
        self._collection_id = collection_id
        self._layout = layout
        self._num_bytes = _HEADER.size + 2 * layout.bitmap_bytes + layout.segment_slots * layout.code_bytes

    def write(self, segment: Segment, change: int) -> SegmentRecord:
        """Write a full segment durably; it counts once its record is committed. Raises BackendUnavailable."""
        assert segment.is_full
        header = bytearray(self._header(SegmentRecord(segment.number, change, checksum=0)))
        parts = [segment.live.data, segment.labelled.data, segment.codes.data]
        checksum = _checksum(header, *parts)
        struct.pack_into("<I", header, _CHECKSUM_AT, checksum)
        record = SegmentRecord(segment.number, change, checksum)
        path = self.path(record)
        part_path = path.with_suffix(".part")
        try:
            with part_path.open("wb") as file:
                file.write(header)
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            part_path.rename(path)
            sync_folder(self.folder)
        except OSError as exc:
            raise BackendUnavailable(
                f"the segment file {path} cannot be written ({exc.strerror}): free some space, "
                "or check the disk"
            ) from exc
        return record

    def read(self, record: SegmentRecord) -> Segment:
        """The segment as of its change. Raises SegmentDamaged unless it is the file that `record` means."""
        path, layout = self.path(record), self._layout
        try:
            content = np.fromfile(path, dtype=np.uint8)
        except OSError as exc:
            raise SegmentDamaged(f"{path} cannot be read ({exc.strerror})") from exc
        if len(content) != self._num_bytes:
            raise SegmentDamaged(f"{path} has {len(content)} bytes instead of {self._num_bytes}")
        header, body = content[: _HEADER.size].tobytes(), content[_HEADER.size :]
        if header != self._header(record):
            raise SegmentDamaged(f"{path} has the header of another file")
        if _checksum(header, body.data) != record.checksum:
            raise SegmentDamaged(f"{path} does not match its checksum")
        live, labelled, codes = np.split(body, [layout.bitmap_bytes, 2 * layout.bitmap_bytes])
        return Segment(
            number=record.number,
            size=layout.segment_slots,
            num_live=int(np.bitwise_count(live).sum()),
            codes=codes.reshape(layout.segment_slots, layout.code_bytes),
            live=live,
            labelled=labelled,
        )

    def _header(self, record: SegmentRecord) -> bytes:
        layout = self._layout
        return _HEADER.pack(
            _MAGIC,
            _VERSION,
            layout.code_bytes * 8,
            layout.segment_slots,
            record.checksum,
            record.number * layout.segment_slots,
            record.change,
            self._collection_id,
        )

    def path(self, record: SegmentRecord) -> Path:
        """Where the file of `record` is."""
        return self.folder / f"{record.number:08d}-{record.change:012d}.segment"

    def delete(self, record: SegmentRecord) -> None:
        """Delete a file that no longer counts. What cannot be deleted now goes at the next opening."""
        with suppress(OSError):
            self.path(record).unlink()

    def delete_others(self, records: list[SegmentRecord]) -> None:
        """Delete every file that none of `records` names: what crashes and compactions left."""
        kept = {self.path(record).name for record in records}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()


def _checksum(header: bytes | bytearray, *parts: memoryview) -> int:
    checksum = zlib.crc32(header[:_CHECKSUM_AT])
    checksum = zlib.crc32(header[_CHECKSUM_END:], checksum)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum
