"""Where images are found: names of image files, and the Parquet layout of image data sets.

The layout is that of Hugging Face's `datasets`: a column `image` of `{bytes, path}`, a column `label`, and
the labels' names in the schema's metadata.
"""

import json
from collections.abc import Mapping

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
)
"""Suffixes, in lower case, of files taken for images; what is in them decides whether they are."""


_MEDIA_TYPES = {
    b"\xff\xd8": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"II": "image/tiff",
    b"MM": "image/tiff",
    b"BM": "image/bmp",
}
"""By the first bytes of a file."""


def media_type(file: bytes) -> str:
    """The media type of an image file that is known to be one."""
    for start, kind in _MEDIA_TYPES.items():
        if file.startswith(start):
            return kind
    return "application/octet-stream"


def label_names(metadata: Mapping[bytes, bytes] | None) -> list[str] | None:
    """Names of the integer labels from a Parquet schema's metadata, or None if it has none."""
    text = (metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names: list[str] | None = json.loads(text)["info"]["features"]["label"]["names"]
    except (ValueError, KeyError, TypeError):  # Written by another library, or another version of that one.
        return None
    return names
