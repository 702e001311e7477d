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
