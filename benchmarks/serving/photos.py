"""Photographs in other shapes: as large as a telephone's, and as many as a folder to index needs."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

LARGE_SIZE = (4000, 3000)
_LARGE_QUALITY = 90


def find_photos(folder: Path) -> list[Path]:
    """The JPEG files of a folder, in order. Raises ValueError if there is none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise ValueError(f"{folder} holds no .jpg file: name a folder of photos with --photos")
    return found


def enlarge(photos: Sequence[Path], folder: Path) -> list[Path]:
    """Each photo with 12 megapixels, as a JPEG of quality 90 in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)

    def enlarge_one(path: Path) -> Path:
        large = folder / path.with_suffix(".jpg").name
        if not large.exists():
            with Image.open(path) as image:
                scaled = image.convert("RGB").resize(LARGE_SIZE, Image.Resampling.BICUBIC)
            encoded = io.BytesIO()
            scaled.save(encoded, "JPEG", quality=_LARGE_QUALITY)
            large.write_bytes(encoded.getvalue())
        return large

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(enlarge_one, photos))


def repeat(photos: Sequence[Path], count: int, folder: Path) -> Path:
    """`folder` with so many files, whose contents are those of the photos over and over."""
    folder.mkdir(parents=True)
    originals = []
    for number, photo in enumerate(photos[:count]):
        originals.append(folder / f"{number:06d}.jpg")
        originals[-1].write_bytes(photo.read_bytes())
    for number in range(len(originals), count):
        (folder / f"{number:06d}.jpg").hardlink_to(originals[number % len(originals)])
    return folder
