import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import BackendUnavailable
from index.segment_files import SegmentDamaged, SegmentFiles
from index.segments import Layout, Segment, build_segment
from index.transactions import SegmentRecord

LAYOUT = Layout(code_bytes=4, segment_slots=16)
COLLECTION = bytes(range(16))


@pytest.fixture
def files(tmp_path: Path) -> SegmentFiles:
    return SegmentFiles(tmp_path, COLLECTION, LAYOUT)


@pytest.fixture
def segment(rng: np.random.Generator) -> Segment:
    slots = np.array([32, 35, 47])
    codes = rng.integers(0, 256, (3, 4), dtype=np.uint8)
    return build_segment(2, LAYOUT, 16, slots, codes, np.array([True, False, True]))


def test_a_segment_comes_back_as_it_was(files: SegmentFiles, segment: Segment) -> None:
    found = files.read(files.write(segment, change=9))
    assert (found.number, found.size, found.num_live) == (2, 16, 3)
    assert np.array_equal(found.codes, segment.codes)
    assert np.array_equal(found.live, segment.live)
    assert np.array_equal(found.labelled, segment.labelled)


def test_the_file_is_laid_out_as_documented(files: SegmentFiles, segment: Segment) -> None:
    record = files.write(segment, change=9)
    content = files.path(record).read_bytes()
    assert content[:8] == b"STOCHSEG"
    assert struct.unpack_from("<IIII", content, 8) == (1, 32, 16, zlib.crc32(content[:20] + content[24:]))
    assert struct.unpack_from("<QQ", content, 24) == (32, 9)
    assert content[40:56] == COLLECTION
    assert content[64:66] == segment.live.tobytes()
    assert content[66:68] == segment.labelled.tobytes()
    assert content[68:] == segment.codes.tobytes()


def test_every_flipped_byte_is_noticed(files: SegmentFiles, segment: Segment) -> None:
    record = files.write(segment, change=9)
    content = files.path(record).read_bytes()
    for at in range(len(content)):
        files.path(record).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(SegmentDamaged):
            files.read(record)
    files.path(record).write_bytes(content)
    files.read(record)


@pytest.mark.parametrize("size", [0, 63, 64, 100, 131, 133])
def test_torn_and_padded_files_are_noticed(files: SegmentFiles, segment: Segment, size: int) -> None:
    record = files.write(segment, change=9)
    content = files.path(record).read_bytes()
    files.path(record).write_bytes((content + b"\0")[:size])
    with pytest.raises(SegmentDamaged, match=f"{size} bytes instead of 132"):
        files.read(record)


def test_a_missing_file_is_noticed(files: SegmentFiles) -> None:
    with pytest.raises(SegmentDamaged, match="No such file"):
        files.read(SegmentRecord(0, 0, 0))


@pytest.mark.parametrize("other", [{"number": 3}, {"change": 8}, {"checksum": 1}])
def test_a_file_under_the_name_of_another_is_noticed(
    files: SegmentFiles, segment: Segment, other: dict[str, int]
) -> None:
    record = files.write(segment, change=9)
    wanted = SegmentRecord(**{"number": 2, "change": 9, "checksum": record.checksum} | other)
    if files.path(wanted) != files.path(record):
        files.path(record).rename(files.path(wanted))
    with pytest.raises(SegmentDamaged, match="header of another file"):
        files.read(wanted)


def test_a_file_of_another_collection_is_noticed(files: SegmentFiles, segment: Segment) -> None:
    record = files.write(segment, change=9)
    with pytest.raises(SegmentDamaged, match="header of another file"):
        SegmentFiles(files.folder, bytes(16), LAYOUT).read(record)


def test_what_no_record_names_is_deleted(files: SegmentFiles, segment: Segment) -> None:
    kept = files.write(segment, change=9)
    files.write(segment, change=10)
    (files.folder / "00000005-000000000003.part").write_bytes(b"torn")
    files.delete_others([kept])
    assert list(files.folder.iterdir()) == [files.path(kept)]


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path, segment: Segment) -> None:
    files = SegmentFiles(tmp_path / "gone", COLLECTION, LAYOUT)
    files.folder.rmdir()
    with pytest.raises(BackendUnavailable, match="cannot be written"):
        files.write(segment, change=1)
