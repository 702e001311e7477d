"""What an item may be: ids, labels, metadata and names, checked once on the way in.

Past this module every item is a `Row`, ready for SQL.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from types import NoneType
from typing import Any

import orjson

from contracts.codes import check_length
from contracts.errors import InvalidItem, InvalidQuery
from contracts.quoting import quote
from index.protocol import Item, Metadata

MAX_ID_BYTES = 255
MAX_METADATA_KEYS = 64
MAX_METADATA_BYTES = 16 * 1024
MIN_INT, MAX_INT = -(2**63), 2**63 - 1

Row = tuple[str, bytes, str | None, str, str | None, int | None]
"""id, code, label, metadata as JSON, uri, key of the original."""

_COLLECTION_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_METADATA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ALWAYS_VALID = frozenset({str, bool, NoneType})


def check_collection_name(name: str) -> None:
    """Raise InvalidQuery unless `name` may name a collection."""
    if not _COLLECTION_NAME.fullmatch(name):
        raise InvalidQuery(
            f"the collection name {name!r} is not allowed: use 1 to 64 of a-z, 0-9, underscore and hyphen"
        )


@lru_cache(maxsize=4096)  # A collection has few keys, each on many items.
def is_metadata_key(key: str) -> bool:
    """Whether `key` may name a metadata field."""
    return _METADATA_KEY.fullmatch(key) is not None


def is_id(text: str) -> bool:
    """Whether an item may have the id `text`."""
    try:
        _check_id(text)
    except InvalidItem:
        return False
    return True


def to_row(item: Item, code_bytes: int) -> Row:
    """Check one item. Raises InvalidItem, naming the item and what is wrong with it."""
    _check_id(item.id)
    if not isinstance(item.code, bytes):
        raise InvalidItem(f"item {item.id!r}: the code is {type(item.code).__name__}: give it as bytes")
    check_length(item.code, code_bytes)
    if item.label is not None:
        _check_text(item.id, "label", item.label)
    if item.uri is not None:
        _check_text(item.id, "uri", item.uri)
    metadata = encode_metadata(item.id, item.metadata)
    return item.id, item.code, item.label, metadata, item.uri, item.original


def to_metadata(text: str) -> dict[str, Any]:
    """Metadata of the JSON that `to_row` made."""
    metadata: dict[str, Any] = orjson.loads(text)
    return metadata


def _check_id(item_id: str) -> None:
    if not isinstance(item_id, str):
        raise InvalidItem(f"the id {item_id!r} is {type(item_id).__name__}: give it as a string")
    if item_id.isascii() and item_id.isprintable() and 1 <= len(item_id) <= MAX_ID_BYTES:
        return  # Nearly all: what follows is slow.
    _check_text(item_id, "id", item_id)
    size = len(item_id.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidItem(
            f"the id {item_id[:40]!r} has {size} bytes of UTF-8: give it 1 to {MAX_ID_BYTES} bytes"
        )
    if _CONTROL.search(item_id):
        raise InvalidItem(f"the id {item_id!r} has a control character: leave it out")


def _check_text(item_id: str, what: str, text: str) -> None:
    if not isinstance(text, str):
        raise InvalidItem(
            f"item {item_id!r}: the {what} is {type(text).__name__}: give it as a string or leave it out"
        )
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidItem(
            f"item {item_id!r}: the {what} {text!r} is not valid Unicode (a lone surrogate): send UTF-8"
        ) from exc


def encode_metadata(item_id: str, metadata: Metadata) -> str:
    """Canonical JSON: filters compare its text, so every value has one spelling. Raises InvalidItem."""
    if not isinstance(metadata, Mapping):
        raise InvalidItem(f"item {item_id!r}: metadata is {type(metadata).__name__}: give a flat object")
    if not metadata:
        return "{}"
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidItem(
            f"item {item_id!r}: metadata has {len(metadata)} keys and the limit is {MAX_METADATA_KEYS}"
        )
    for key, value in metadata.items():
        if not isinstance(key, str) or not is_metadata_key(key):
            raise InvalidItem(
                f"item {item_id!r}: the metadata key {key!r} is not allowed: "
                "use a letter or underscore, then up to 63 letters, digits and underscores"
            )
        if not is_metadata_value(value):
            raise InvalidItem(
                f"item {item_id!r}: the metadata value of {key!r} is {quote(value)} "
                f"({type(value).__name__}): give a string, a finite number (integers of 64 bits), "
                "a boolean, null or a list of strings"
            )
    try:
        encoded = orjson.dumps(metadata if isinstance(metadata, dict) else dict(metadata))
    except orjson.JSONEncodeError as exc:
        raise InvalidItem(
            f"item {item_id!r}: metadata cannot be written as JSON ({exc}): send UTF-8"
        ) from exc
    if len(encoded) > MAX_METADATA_BYTES:
        raise InvalidItem(
            f"item {item_id!r}: metadata has {len(encoded)} bytes of JSON and the limit is "
            f"{MAX_METADATA_BYTES}"
        )
    return encoded.decode()


def is_metadata_value(value: object) -> bool:
    """Whether metadata may hold `value`, of the very types that JSON gives."""
    if type(value) in _ALWAYS_VALID:
        return True
    if type(value) is int:
        return MIN_INT <= value <= MAX_INT
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is list and all(type(part) is str for part in value)
