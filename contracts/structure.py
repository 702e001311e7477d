"""What the bookkeeping of an image file would cost a decoder, found out before one sees it.

A file within every limit of bytes and pixels can still cost minutes or gigabytes: a JPEG of a million
scans, a TIFF of one pixel in a tile of two gigabytes, a PNG of three million empty chunks. No honest
encoder writes such a file, and no decoder used here refuses it. So the structure of each format is walked
first, in time that grows with the number of its parts and not of its bytes, and stops at the limits below.

Nothing here says that a file is sound: what breaks off is left to the decoder. Where decoders follow a
damaged file further than they should, so does the walk, or the limits would not hold.
"""

import re
from collections.abc import Callable, Iterator

from contracts.errors import InvalidImage, TooLarge

MAX_PARTS = 50_000
"""Segments, chunks or blocks that a decoder's loop in Python goes through, at some 5 µs each."""

MAX_SCANS = 100
"""Scans of a JPEG. A progressive file has about ten; each may cost a walk over the whole picture."""

MAX_EXIF_SEGMENTS = 64
"""Each is appended to a copy of those before it."""

MAX_FILLER_BYTES = 64 * 2**10
"""Bytes between the segments of a JPEG that belong to none, skipped one by one."""

MAX_STRIPS = 100_000
"""Strips or tiles of a TIFF, at some 10 µs each. An image of 65,535 rows may have one a row."""

MAX_RUN_LENGTH_BYTES = 4 * 2**20
MAX_RUN_LENGTH_PIXELS = 20_000_000
"""A run-length encoded BMP is decoded in Python: a second or two at these limits."""

Size = tuple[int, int]
"""Width and height."""

_Number = Callable[[bytes, int, int], int]
"""Reads a number of so many bytes from a place."""


def inspect_structure(data: bytes) -> Size | None:
    """The size of what opening or decoding the file would allocate, where that may exceed the image's.

    Raises InvalidImage for a file whose structure no encoder writes, TooLarge for a kind that is
    decoded so slowly that it has limits of its own.
    """
    found = _format_of(data)
    return None if found is None else found[1](data)


def media_type(data: bytes) -> str:
    """The media type of a file that is known to be an image, by its first bytes."""
    found = _format_of(data)
    return "application/octet-stream" if found is None else found[0]


def _format_of(data: bytes) -> tuple[str, Callable[[bytes], Size | None]] | None:
    return next((kind for start, kind in _FORMATS.items() if data.startswith(start)), None)


def _check(count: int, limit: int, parts: str, remedy: str = "save it anew, without its metadata") -> None:
    if count > limit:
        raise InvalidImage(f"the image has more than {limit} {parts}, as no encoder writes it: {remedy}")


# JPEG: FF, a marker, and for most markers a length and as many bytes. The data of a scan follow its
# segment and end at the next marker; in them FF is followed by 00, or by a restart marker.

_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1
_BARE = frozenset({0x00, 0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
"""Markers without a length, or which Pillow reads as if they had none; it reads on after EOI, too."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC3, 0xC9, 0xCB})
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")


def _inspect_jpeg(data: bytes) -> Size | None:
    position, num_parts, num_exif, num_filler = 2, 0, 0, 0
    is_sequential, num_components = False, 0
    while (start := data.find(b"\xff", position)) >= 0:
        num_filler += start - position
        position = start + 1
        marker = data[position : position + 1]
        if marker in (b"", b"\xff") or marker[0] in _BARE:
            is_bare = marker != b"\xff"
            num_filler += 1 + is_bare
            position += is_bare
            _check(num_filler, MAX_FILLER_BYTES, "bytes between its segments that belong to none")
            continue
        kind, length = marker[0], _big(data, start + 2, 2)
        num_parts += 1
        num_exif += kind == _APP1 and data.startswith(b"Exif\0\0", start + 4)
        _check(num_parts, MAX_PARTS, "segments")
        _check(num_exif, MAX_EXIF_SEGMENTS, "segments of EXIF")
        _check(num_filler, MAX_FILLER_BYTES, "bytes between its segments that belong to none")
        if kind in _FRAMES:
            is_sequential, num_components = kind in _SEQUENTIAL, _big(data, start + 9, 1)
        position = start + 2 + max(length, 2)
        if kind == _SOS:
            # A sequential image all of whose components are in its first scan ends with that.
            if not is_sequential or _big(data, start + 4, 1) != num_components:
                _check_scans(data, position)
            return None
    return None


def _check_scans(data: bytes, position: int) -> None:
    """Raise InvalidImage if there are too many scans, the first of which has its data at `position`."""
    if data.count(b"\xff\xda", position) < MAX_SCANS:
        return  # Never too few, and quick; but what is embedded or appended has scans of its own.
    num_scans = num_parts = 1
    while (found := _MARKER.search(data, position)) and found[1][0] not in (0xD8, _EOI):
        num_parts += 1
        num_scans += found[1][0] == _SOS
        _check(num_parts, MAX_PARTS, "segments")
        _check(num_scans, MAX_SCANS, "scans", "save it as a baseline JPEG, or with a common progression")
        position = found.end() + max(_big(data, found.end(), 2), 2)


# PNG: chunks of a length, a name, as many bytes and a checksum.


def _inspect_png(data: bytes) -> Size | None:
    position, num_chunks = 8, 0
    while position < len(data) and data[position + 4 : position + 8] != b"IEND":
        position += 12 + _big(data, position, 4)
        num_chunks += 1
        _check(num_chunks, MAX_PARTS, "chunks")
    return None


# GIF: before the first frame, blocks of a label and sub-blocks, which have a length and as many bytes and
# end with an empty one.

_COMMENT, _APPLICATION = 254, 255


def _inspect_gif(data: bytes) -> Size | None:
    """The extent of the first frame: it may exceed the screen, and is filled when the file is opened."""
    flags = _big(data, 10, 1)
    position, num_blocks = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0), 0
    while position < len(data) and data[position : position + 1] not in (b",", b";"):
        num_blocks += 1
        _check(num_blocks, MAX_PARTS, "blocks before its first frame")
        if data[position : position + 1] != b"!":
            position += 1
            continue
        label = _big(data, position + 1, 1)
        position += 2
        # Pillow reads on after a first sub-block that is empty, but in a comment.
        num_unconditional = 0 if label == _COMMENT else 1
        if label == _APPLICATION and data.startswith(b"NETSCAPE2.0", position + 1):
            num_unconditional = 2
        while position < len(data) and (data[position] or num_unconditional > 0):
            num_unconditional -= 1
            num_blocks += 1
            _check(num_blocks, MAX_PARTS, "blocks before its first frame")
            position += 1 + data[position]
        position += 1
    if data[position : position + 1] != b",":
        return None
    left, top, width, height = (_little(data, position + at, 2) for at in (1, 3, 5, 7))
    return left + width, top + height


# WebP: a RIFF file whose first chunk may give a canvas, which is allocated when the file is opened.


def _inspect_webp(data: bytes) -> Size | None:
    if data[12:16] != b"VP8X":
        return None
    return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1


# TIFF: directories of tags, each with a type, a count, and its values or their place. BigTIFF has wider
# counts and places.

_TILE_WIDTH, _TILE_LENGTH = 322, 323
_STRIPS = frozenset({273, 279, 324, 325})
_VALUE_BYTES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}
"""Of the types of whole numbers."""


def _inspect_tiff(data: bytes) -> Size | None:
    """The size of the tiles: they may exceed the image, and are decoded whole."""
    if data.startswith(b"MM\0\x2b"):
        raise InvalidImage(
            "the image is a big-endian BigTIFF, which is not read here: save it as TIFF or PNG"
        )
    number = _little if data.startswith(b"II") else _big
    tile = {_TILE_WIDTH: 0, _TILE_LENGTH: 0}
    for tag, kind, count, at in _first_directory(data, number, data[2:3] == b"\x2b"):
        if tag in _STRIPS:
            _check(count, MAX_STRIPS, "strips or tiles", "save it with larger ones")
        if tag in tile and kind in _VALUE_BYTES:  # Who reads tags that are there twice takes either.
            tile[tag] = max(tile[tag], number(data, at, _VALUE_BYTES[kind]))
    return (tile[_TILE_WIDTH], tile[_TILE_LENGTH]) if min(tile.values()) else None


def _first_directory(data: bytes, number: _Number, is_big: bool) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count, and the place of the first value, of each entry."""
    width, count_bytes = (8, 8) if is_big else (4, 2)
    position = number(data, width, width)
    num_entries = number(data, position, count_bytes)
    position += count_bytes
    _check(num_entries, MAX_PARTS, "TIFF tags")
    for start in range(position, min(position + num_entries * (4 + 2 * width), len(data)), 4 + 2 * width):
        tag, kind = number(data, start, 2), number(data, start + 2, 2)
        count, at = number(data, start + 4, width), start + 4 + width
        if count * _VALUE_BYTES.get(kind, 0) > width:
            at = number(data, at, width)
        yield tag, kind, count, at


# BMP: a header of some version, and pixels, which may be run-length encoded.


def _inspect_bmp(data: bytes) -> Size | None:
    if _little(data, 14, 4) < 40 or _little(data, 30, 4) not in (1, 2):
        return None
    height = _little(data, 22, 4)
    num_pixels = _little(data, 18, 4) * min(height, 2**32 - height)  # Upside down where it is negative.
    if num_pixels > MAX_RUN_LENGTH_PIXELS or len(data) > MAX_RUN_LENGTH_BYTES:
        raise TooLarge(
            f"the image is a run-length encoded BMP of {num_pixels} pixels and {len(data)} bytes, and the "
            f"limits are {MAX_RUN_LENGTH_PIXELS} and {MAX_RUN_LENGTH_BYTES}: save it as PNG"
        )
    return None


def _big(data: bytes, at: int, num_bytes: int) -> int:
    """A big-endian number; where the file ends, of fewer bytes."""
    return int.from_bytes(data[at : at + num_bytes], "big")


def _little(data: bytes, at: int, num_bytes: int) -> int:
    return int.from_bytes(data[at : at + num_bytes], "little")


_FORMATS: dict[bytes, tuple[str, Callable[[bytes], Size | None]]] = {
    b"\xff\xd8": ("image/jpeg", _inspect_jpeg),
    b"\x89PNG": ("image/png", _inspect_png),
    b"GIF8": ("image/gif", _inspect_gif),
    b"RIFF": ("image/webp", _inspect_webp),
    b"II": ("image/tiff", _inspect_tiff),
    b"MM": ("image/tiff", _inspect_tiff),
    b"BM": ("image/bmp", _inspect_bmp),
}
"""Media type and walk, by the first bytes of a file."""
