"""Image files within the limits of bytes and pixels that would cost a decoder minutes or gigabytes."""

import struct
import zlib

from PIL import Image

from tests.image_files import bmp, chunk, encode, jpeg, photo, png, segment, tiff

EMPTY_SCAN = segment(0xDA, bytes([1, 1, 0, 1, 63, 0]))
"""A scan without data, of the first component's AC coefficients."""


def progressive_jpeg(num_scans: int, between: bytes = b"", **options: object) -> bytes:
    """A grey progressive JPEG with so many scans, six of them true."""
    data = encode(Image.new("L", (64, 64), 100), "JPEG", progressive=True, **options)
    assert data.count(b"\xff\xda") == 6
    return data[:-2] + (between + EMPTY_SCAN) * (num_scans - 6) + data[-2:]


def jpeg_with(content: bytes) -> bytes:
    """A JPEG with something after its first segment."""
    return jpeg()[:20] + content + jpeg()[20:]


def png_with(num_chunks: int, name: bytes = b"abCd", *, at_end: bool = False) -> bytes:
    """A PNG with so many chunks, nearly all empty."""
    data = png()
    end = -12 if at_end else 33
    return data[:end] + chunk(name, b"") * (num_chunks - 2) + data[end:]


def gif_with(blocks: bytes) -> bytes:
    """A GIF of 48x40 pixels with something before its frame."""
    data = encode(photo(48, 40).quantize(256), "GIF")
    start = data.index(b",\0\0\0\0" + struct.pack("<HH", 48, 40))
    return data[:start] + blocks + data[start:]


def tiff_in_strips(num_strips: int, compression: int = 1) -> bytes:
    """A TIFF of one pixel a row, and of one row a strip."""
    offsets = {273: [8] * num_strips, 278: [1], 279: [1] * num_strips}
    return tiff(1, num_strips, compression, b"x", offsets)


COSTLY = {
    "jpeg of 101 scans": progressive_jpeg(101),
    "jpeg of 100,000 scans": progressive_jpeg(100_000),
    "jpeg of scans between comments": progressive_jpeg(101, segment(0xFE, b"\xff\xd9")),
    "jpeg of scans between restarts": progressive_jpeg(101, b"\xff\xd0\0"),
    "jpeg of 50,001 segments": jpeg_with(segment(0xE5, b"") * 50_001),
    "jpeg of 50,001 segments after the end": b"\xff\xd8\xff\xd9" + segment(0xE5, b"") * 50_001 + jpeg()[2:],
    "jpeg of 65 segments of EXIF": jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(9)) * 65),
    "jpeg with filler": jpeg_with(bytes(65_537)),
    "jpeg with filler of FF": jpeg_with(b"\xff" * 65_537),
    "jpeg with filler of FF 00": jpeg_with(b"\xff\0" * 32_769),
    "png of 50,001 chunks": png_with(50_001),
    "png of 50,001 chunks at its end": png_with(50_001, at_end=True),
    "png of 50,001 empty chunks of pixels": png_with(50_001, b"IDAT"),
    "gif with comments": gif_with(b"!\xfe" + b"\1x" * 50_001 + b"\0"),
    "gif with extensions": gif_with(b"!\1\1x\0" * 25_001),
    "gif with nothing": gif_with(bytes(50_001)),
    "tiff of 100,001 strips": tiff_in_strips(100_001),
    "compressed tiff of 100,001 strips": tiff_in_strips(100_001, 8),
    "tiff of 100,001 strips in one pixel": tiff(1, 1, 1, b"x", {273: [8] * 100_001}),
}
"""Answered by invalid-image."""

SLOW_BMP = {
    "run-length bmp of 4 MiB": bmp(8, 8, 1, b"\1\1" * 2**21),
    "run-length bmp of 20 megapixels": bmp(5000, 4001, 2, b"\0\1"),
    "run-length bmp upside down": bmp(5000, -4001, 2, b"\0\1"),
}
"""Answered by too-large."""

NEARLY = {
    "jpeg of 100 scans": progressive_jpeg(100),
    "baseline jpeg with 200 jpegs appended": jpeg() + jpeg() * 200,
    "progressive jpeg with 200 jpegs appended": progressive_jpeg(6) + jpeg() * 200,
    "progressive jpeg with 200 scans in a comment": progressive_jpeg(7, segment(0xFE, EMPTY_SCAN * 200)),
    "jpeg of 49,000 segments": jpeg_with(segment(0xE5, b"") * 49_000),
    "jpeg with some filler": jpeg_with(bytes(60_000)),
    "png of 50,000 chunks": png_with(50_000),
    "gif with 20,000 comments": gif_with(b"!\xfe\1x\0" * 20_000),
    "gif with a long comment": gif_with(b"!\xfe" + (b"\xff" + b"," * 255) * 200 + b"\0"),
    "tiff of 10,000 strips": tiff_in_strips(10_000),
    "compressed tiff of 10,000 strips": tiff(
        1, 10_000, 8, zlib.compress(b"x"), {273: [8] * 10_000, 278: [1], 279: [9] * 10_000}
    ),
    "run-length bmp": bmp(4000, 4000, 1, b"\0\2\0\xff" * 16),
}
"""Just within the limits; the structure of most is odd, but each has a picture."""
