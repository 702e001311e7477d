"""Image files of every kind that a service meets, good and bad, made on the spot."""

import base64
import io
import struct
import zlib

import numpy as np
from PIL import Image


def photo(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with some texture, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    texture = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray((smooth + texture).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file of that kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int = 0, width: int = 48, height: int = 40) -> bytes:
    return encode(photo(width, height, seed))


def jpeg(seed: int = 0, width: int = 160, height: int = 120, **options: object) -> bytes:
    return encode(photo(width, height, seed), "JPEG", **{"quality": 90} | options)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def huge_png_header(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of some 60 bytes whose header claims that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def huge_png(width: int = 20_000, height: int = 20_000) -> bytes:
    """A true 1-bit PNG of that size, all black, in some 50 kB."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def huge_jpeg_header(width: int = 20_000, height: int = 20_000) -> bytes:
    """A small JPEG whose frame header was changed to claim that size."""
    data = bytearray(jpeg())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def animated_gif() -> bytes:
    """Two frames; the first is that of `photo(seed=1)`."""
    frames = [photo(48, 40, seed).quantize(256) for seed in (1, 2)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def grey_16_bit() -> bytes:
    """A ramp over all 16 bits."""
    ramp = np.tile(np.linspace(0, 65535, 48).astype(np.uint16), (40, 1))
    return encode(Image.fromarray(ramp))


def with_alpha() -> bytes:
    """Left half opaque, right half transparent."""
    image = photo(48, 40).convert("RGBA")
    alpha = np.zeros((40, 48), dtype=np.uint8)
    alpha[:, :24] = 255
    image.putalpha(Image.fromarray(alpha))
    return encode(image)


def cmyk_jpeg() -> bytes:
    return encode(photo(48, 40).convert("CMYK"), "JPEG", quality=90)


def frames() -> list[Image.Image]:
    """Three pictures; the first is `photo(seed=1)`."""
    return [photo(48, 40, seed) for seed in (1, 2, 3)]


def animation(kind: str, **options: object) -> bytes:
    """All of `frames()` in one file of that kind."""
    first, *others = frames()
    return encode(first, kind, save_all=True, append_images=others, **options)


def png_16_bit_rgb() -> bytes:
    """The upper bytes are those of `photo(48, 40)`; the lower ones are noise."""
    pixels = np.asarray(photo(48, 40)).astype(">u2") * 256
    pixels += np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint16)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with_exif(content: bytes, **options: object) -> bytes:
    """`jpeg()` with EXIF of that content, sound or not."""
    data = jpeg(**options)
    return data[:2] + segment(0xE1, b"Exif\0\0" + content) + data[2:]


def bmp(width: int, height: int, compression: int, pixels: bytes) -> bytes:
    """A BMP of 256 greys, or of 16 if the compression is 2."""
    bits = 4 if compression == 2 else 8
    palette = b"".join(bytes([grey * 255 // (2**bits - 1)]) * 3 + b"\0" for grey in range(2**bits))
    start = 54 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    return head + palette + pixels


def tiff(width: int, height: int, compression: int, strips: bytes, tags: dict[int, list[int]]) -> bytes:
    """A grey TIFF of 8 bits. Its `strips` start at byte 8; `tags` say how they are laid out."""
    entries = {256: [width], 257: [height], 258: [8], 259: [compression], 262: [1], 277: [1]} | tags
    offset = 8 + len(strips)
    place = offset + 6 + 12 * len(entries)
    directory, values = struct.pack("<H", len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        content = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(content) > 4:
            values += content
            content = struct.pack("<I", place + len(values) - len(content))
        directory += struct.pack("<HHI", tag, 4, len(numbers)) + content
    return struct.pack("<2sHI", b"II", 42, offset) + strips + directory + bytes(4) + values


def webp_canvas(width: int, height: int) -> bytes:
    """An animated WebP of that size with one frame of 8x8 pixels."""
    frame = encode(Image.new("RGB", (8, 8)), "WEBP")[12:]
    frame = bytes(6) + bytes([7, 0, 0, 7, 0, 0]) + bytes(4) + frame
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    content = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + size
    content += b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(content)) + content


def gif_frame(width: int, height: int, disposal: int = 2) -> bytes:
    """A GIF whose screen has 8x8 pixels, and its frame that size."""
    data = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    data += b"!\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0])
    return data + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0;"


# Nothing at hand can write these two: a grey photograph of 16x16 pixels, encoded arithmetically.
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
    "FRUVDA8XGBYUGBIUFRT/yQALCAAQABABAREA/8wABgAQEAX/2gAIAQEAAD8A0hfMagkAA9uSSjgOqn97utzty905MHf3k0NwUawZ"
    "eGFQyi2AZff7kDQY0UAtseXguRAuXVXqiazz0n3h0M35j748YCCFj/u0BU02Bzxe4SC4mum0RW63QLLYvdXG7kQL55TqKyX4rJqy"
    "iyze5TCCNehr2FviUst5gU76dhP6Zf/Z"
)
ARITHMETIC_PROGRESSIVE_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
    "FRUVDA8XGBYUGBIUFRT/ygALCAAQABABAREA/8wABAAQ/9oACAEBAAAAAdGHpgSU/8wABBAF/9oACAEBAAEFAkrIzAwYyAGqTdLP"
    "8zCylWwtdf/MAAQQBf/aAAgBAQAGPwIVnDWT6ZEgTEgboO8182/5QcLmtA81/Z/dNWeCBnougP/MAAQQBf/aAAgBAQABPyGw6yRQ"
    "870UNbxvZShswN2796jKjbr/2gAIAQEAAAAQ0P/MAAQQBf/aAAgBAQABPxDwARGP8PehWho0SqbPkz+k3/HeGyXqV8osSajkmPY2"
    "kj4JFiPAEcagrw2rzP/Z"
)


def printer_profile(lab: tuple[float, float, float]) -> bytes:
    """An ICC version 2 profile of a printer of one colour: `lab` without black ink, black with it.

    Pillow can make no CMYK profile, so this one is spelled out: a header, and a table of two points an ink.
    """
    value = [round(lab[0] / 100 * 0xFF00), *(round((part + 128) * 256) for part in lab[1:])]
    table = struct.pack(">4sI3Bx", b"mft2", 0, 4, 3, 2)
    table += struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table += struct.pack(">2H", 2, 2)
    table += struct.pack(">8H", *([0, 65535] * 4))
    table += struct.pack(">48H", *([*value, 0, 128 * 256, 128 * 256] * 8))
    table += struct.pack(">6H", *([0, 65535] * 3))
    tags = [(b"A2B0", table), (b"wtpt", struct.pack(">4sI3i", b"XYZ ", 0, 63190, 65536, 54061))]
    description = b"one colour\0"
    tags.append((b"desc", struct.pack(">4sII", b"desc", 0, len(description)) + description + bytes(78)))
    tags.append((b"cprt", b"text\0\0\0\0none\0"))
    offset = 128 + 4 + 12 * len(tags)
    entries, body = b"", b""
    for name, content in tags:
        content += bytes(-len(content) % 4)
        entries += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


GOOD = {
    "1x1": encode(Image.new("RGB", (1, 1), (200, 10, 10))),
    "1x1 jpeg": encode(Image.new("RGB", (1, 1), (200, 10, 10)), "JPEG"),
    "1000x1": encode(Image.new("RGB", (1000, 1), (10, 200, 10))),
    "CMYK": cmyk_jpeg(),
    "16-bit": grey_16_bit(),
    "animated": animated_gif(),
    "alpha": with_alpha(),
    "grey jpeg": encode(photo(48, 40).convert("L"), "JPEG"),
    "palette": encode(photo(48, 40).quantize(16)),
    "webp": encode(photo(48, 40), "WEBP"),
    "progressive": jpeg(progressive=True),
    "CMYK jpeg with a profile": encode(
        photo(48, 40).convert("CMYK"), "JPEG", icc_profile=printer_profile((60, 30, -20))
    ),
    "arithmetic jpeg": ARITHMETIC_JPEG,
    "arithmetic progressive jpeg": ARITHMETIC_PROGRESSIVE_JPEG,
    "jpeg with broken EXIF": jpeg_with_exif(b"these are no tags"),
    "jpeg with EXIF in many parts": jpeg()[:2] + segment(0xE1, b"Exif\0\0" + bytes(9)) * 64 + jpeg()[2:],
    "several jpegs": animation("MPO"),
    "animated webp": animation("WEBP", lossless=True),
    "animated png": animation("PNG"),
    "tiff of several pages": animation("TIFF"),
    "16-bit rgb": png_16_bit_rgb(),
    "16-bit tiff": encode(Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)), "TIFF"),
    "16-bit big-endian tiff": encode(
        Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)).convert("I;16B"), "TIFF"
    ),
    "palette with alpha": encode(photo(48, 40).quantize(16), transparency=3),
    "fax": encode(photo(48, 40).convert("1"), "TIFF", compression="group4"),
    "tiled tiff": tiff(
        40, 24, 1, bytes(range(256)) * 6, {322: [16], 323: [16], 324: [8 + 256 * i for i in range(6)]}
    ),
    "run-length bmp": bmp(8, 2, 1, b"\x03\x40\x05\xc0\0\0" * 2 + b"\0\1"),
    "lossless webp": encode(photo(48, 40), "WEBP", lossless=True),
    "avif": encode(photo(48, 40), "AVIF", speed=10),
}
"""Unusual, but images."""

INVALID = {
    "empty": b"",
    "text named .jpg": b"this is no image, whatever its name says\n" * 10,
    "truncated jpeg": jpeg()[:-200],
    "jpeg without its last byte": jpeg()[:-1],
    "jpeg header only": jpeg()[:300],
    "truncated png": png()[:-60],
    "png header only": png()[:20],
    "broken gif": animated_gif()[:100],
    "truncated webp": encode(photo(48, 40), "WEBP")[:-40],
    "truncated tiff": encode(photo(48, 40), "TIFF")[:-40],
    "truncated bmp": encode(photo(48, 40), "BMP")[:-40],
    "truncated avif": encode(photo(48, 40), "AVIF", speed=10)[:-40],
    "float tiff": encode(Image.new("F", (4, 4)), "TIFF"),
    "12-bit jpeg": jpeg().replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "png with a wrong checksum": png().replace(b"IDAT", b"IDAt", 1),
    "big-endian BigTIFF": b"MM\0\x2b\0\x08\0\0" + (16).to_bytes(8, "big") + bytes(100),
    "gif without a frame": b"GIF89a" + bytes(7) + b";",
    "pdf": b"%PDF-1.7\n" * 20,
}
"""Answered by invalid-image."""

TOO_LARGE = {
    "20,000x20,000 png header": huge_png_header(),
    "20,000x20,000 png": huge_png(),
    "20,000x20,000 jpeg header": huge_jpeg_header(),
    "20,000x20,000 gif frame": gif_frame(20_000, 20_000),
    "20,000x20,000 webp": webp_canvas(20_000, 20_000),
    "20,000x20,000 bmp header": bmp(20_000, 20_000, 0, b""),
    "20,000x20,000 tiff header": tiff(20_000, 20_000, 8, b"", {273: [8]}),
    "1x1 tiff in a tile of 20,000x20,000": tiff(1, 1, 8, b"x", {322: [20_000], 323: [20_000], 324: [8]}),
}
"""Answered by too-large, before anything is decoded."""
