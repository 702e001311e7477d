"""Image files that were valid once: damaged byte by byte, and by the parts that their format has.

A flipped bit in a PNG ends at its checksum, so parts are changed and put together again with lengths and
checksums that are right. Every choice is drawn from the `Random` that is passed in: Hypothesis's, which can
shrink what it finds, or Python's, which is quick.
"""

import re
import struct
from collections.abc import Callable
from random import Random

from PIL import Image

from tests import image_files
from tests.costly_images import progressive_jpeg
from tests.image_files import chunk, encode, jpeg, jpeg_with_exif, photo

_SMALL = {"seed": 1, "width": 40, "height": 24}


def _exif(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a photograph"
    exif[0x011A] = 72.0
    return exif.tobytes()[6:]


SEEDS: dict[str, bytes] = {
    **image_files.GOOD,
    "small jpeg": jpeg(**_SMALL),
    "restarts jpeg": jpeg(**_SMALL, restart_marker_blocks=2),
    "exif jpeg": jpeg_with_exif(_exif(), **_SMALL),
    "small progressive jpeg": jpeg(**_SMALL, progressive=True),
    "many scans jpeg": progressive_jpeg(90),
    "small cmyk jpeg": encode(photo(24, 16).convert("CMYK"), "JPEG"),
    "small rgba png": encode(photo(24, 16).convert("RGBA")),
    "exif png": encode(photo(24, 16), exif=b"Exif\0\0" + _exif()),
    "small webp": encode(photo(24, 16), "WEBP"),
    "alpha webp": encode(photo(24, 16).convert("RGBA"), "WEBP", exif=_exif(), icc_profile=b"none"),
    "small gif": encode(photo(24, 16).quantize(16), "GIF", comment=b"no comment", transparency=2),
    "interlaced gif": encode(photo(24, 16).quantize(16), "GIF", interlace=1),
    "rgb bmp": encode(photo(24, 16), "BMP"),
    "palette bmp": encode(photo(24, 16).quantize(16), "BMP"),
    **{
        f"{compression} tiff": encode(photo(24, 16), "TIFF", compression=compression)
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")
    },
    "ycbcr tiff": encode(photo(24, 16).convert("YCbCr"), "TIFF"),
    "lab tiff": encode(photo(24, 16).convert("LAB"), "TIFF"),
    "float tiff": image_files.INVALID["float tiff"],
    "big tiff": encode(photo(24, 16), "TIFF", big_tiff=True),
}
"""Small, so that thousands can be decoded, and one of nearly every way through the decoders."""

_NUMBERS = (0, 1, 2, 3, 7, 8, 16, 31, 64, 127, 128, 255, 256, 1000, 4095, 16_383, 32_767, 32_768, 65_535)
_LARGE = (2**16, 2**20, 10**8, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)


def mutate(random: Random, data: bytes) -> bytes:
    """`data` with one to four changes."""
    for _ in range(random.randint(1, 4)):
        change = random.choice([*_CHANGES, *_FORMATS.get(data[:3], ())])
        data = change(random, data)
    return data


# Changes of bytes, whatever they mean.


def _flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _put_number(random: Random, data: bytes) -> bytes:
    size, order = random.choice("BHI"), random.choice("<>")
    number = random.choice(_NUMBERS + _LARGE) & (256 ** struct.calcsize("<" + size) - 1)
    content = struct.pack(order + size, number)
    # Twice out of three times among the first bytes, where headers are.
    start = random.randrange(1 + (len(data) if random.randrange(3) == 0 else min(len(data), 128)))
    return data[:start] + content + data[start + len(content) :]


def _range(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice(_NUMBERS[:14]))


def _truncate(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _delete(random: Random, data: bytes) -> bytes:
    start, stop = _range(random, data)
    return data[:start] + data[stop:]


def _repeat(random: Random, data: bytes) -> bytes:
    start, stop = _range(random, data)
    return data[:stop] + data[start:stop] * random.choice((1, 2, 20)) + data[stop:]


def _splice(random: Random, data: bytes) -> bytes:
    other = SEEDS[random.choice(tuple(SEEDS))]
    (start, stop), (from_start, from_stop) = _range(random, data), _range(random, other)
    return data[:start] + other[from_start:from_stop] + data[stop:]


_CHANGES = (_flip, _put_number, _truncate, _delete, _repeat, _splice)

# Changes of parts.

_Split = Callable[[bytes], list[bytes]]
_Join = Callable[[list[bytes]], bytes]


def _by_parts(split: _Split, join: _Join) -> Callable[[Random, bytes], bytes]:
    """A change of the parts that `split` finds, put together again by `join`."""

    def change(random: Random, data: bytes) -> bytes:
        parts = split(data)
        if not parts:
            return data
        at, other = random.randrange(len(parts)), random.randrange(len(parts))
        kind = random.randrange(6)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts[at:at] = [parts[at]] * random.choice((1, 3, 70))
        elif kind == 2:
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 3:
            foreign = split(
                SEEDS[random.choice([k for k, v in SEEDS.items() if v[:3] == data[:3]] or ["1x1"])]
            )
            if foreign:
                parts[at:at] = [random.choice(foreign)]
        else:
            parts[at] = random.choice((_flip, _put_number, _put_number, _truncate))(random, parts[at])
        return join(parts)

    return change


def _png_chunks(data: bytes) -> list[bytes]:
    """Name and content of each."""
    chunks, position = [], 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append(data[position + 4 : position + 8 + length])
        position += 12 + length
    return chunks


def _join_png(chunks: list[bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(one[:4].ljust(4, b"x"), one[4:]) for one in chunks)


def _jpeg_segments(data: bytes) -> list[bytes]:
    """Cut before every marker that is none inside a scan."""
    cuts = [found.start() for found in re.finditer(rb"\xff[\xc0-\xcf\xd8-\xfe]", data)]
    return [data[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(data)], strict=True)]


def _webp_chunks(data: bytes) -> list[bytes]:
    """Name and content of each, without padding."""
    chunks, position = [], 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        chunks.append(data[position : position + 4] + data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return chunks


def _join_webp(chunks: list[bytes]) -> bytes:
    content = b"WEBP"
    for one in chunks:
        content += one[:4].ljust(4, b"x") + struct.pack("<I", max(0, len(one) - 4)) + one[4:]
        content += bytes(len(one) % 2)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _gif_blocks(data: bytes) -> list[bytes]:
    """Cut where extensions and frames seem to begin."""
    cuts = [0, *(found.start() for found in re.finditer(rb"!\xf9\x04|!\xfe|!\xff\x0b|,\0\0\0\0", data))]
    return [data[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(data)], strict=True)]


def _change_tiff(random: Random, data: bytes) -> bytes:
    """One field of one entry of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 10:
        return data
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return data
    (count,) = struct.unpack_from(order + "H", data, start)
    at = start + 2 + 12 * random.randrange(min(count, 40) + 1)
    field, size = random.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
    tags = (
        256,
        257,
        258,
        259,
        262,
        266,
        273,
        274,
        277,
        278,
        279,
        284,
        317,
        320,
        322,
        323,
        324,
        325,
        338,
        347,
        530,
    )
    number = random.choice(tags) if field == 0 else random.choice(_NUMBERS + _LARGE * (size == "I"))
    content = struct.pack(order + size, number)
    return data[: at + field] + content + data[at + field + len(content) :]


def _change_bmp(random: Random, data: bytes) -> bytes:
    """One field of its header."""
    at, size = random.choice(
        ((10, "I"), (14, "I"), (18, "I"), (22, "I"), (26, "H"), (28, "H"), (30, "I"), (34, "I"), (46, "I"))
    )
    numbers = (*_NUMBERS, 24, 40, 108, 124) + _LARGE * (size == "I")
    content = struct.pack("<" + size, random.choice(numbers))
    return data[:at] + content + data[at + len(content) :]


_PNG, _JPEG = _by_parts(_png_chunks, _join_png), _by_parts(_jpeg_segments, b"".join)
_WEBP, _GIF = _by_parts(_webp_chunks, _join_webp), _by_parts(_gif_blocks, b"".join)

_FORMATS: dict[bytes, tuple[Callable[[Random, bytes], bytes], ...]] = {
    b"\x89PN": (_PNG,) * 6,
    b"\xff\xd8\xff": (_JPEG,) * 6,
    b"RIF": (_WEBP,) * 6,
    b"GIF": (_GIF,) * 4,
    b"II*": (_change_tiff,) * 8,
    b"MM\0": (_change_tiff,) * 8,
    **{b"BM" + bytes([size]): (_change_bmp,) * 6 for size in range(256)},
}
"""By the first three bytes; as often as is worth it beside the changes of bytes."""
