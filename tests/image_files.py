"""Image files of every kind that a service meets, good and bad, made on the spot."""

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


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def huge_png_header(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of some 60 bytes whose header claims that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")


def huge_png(width: int = 20_000, height: int = 20_000) -> bytes:
    """A true 1-bit PNG of that size, all black, in some 50 kB."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


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
}
"""Answered by invalid-image."""

TOO_LARGE = {
    "20,000x20,000 png header": huge_png_header(),
    "20,000x20,000 png": huge_png(),
    "20,000x20,000 jpeg header": huge_jpeg_header(),
}
"""Answered by too-large, before anything is decoded."""
