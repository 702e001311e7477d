"""Columns of a Parquet file: which may be used for what, and their values as items have them."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index.items import is_metadata_key
from stochcon.sources.source import SourceOptions, SourceUnavailable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the values of a column become metadata."""

    arrow_type: "pa.DataType | None"
    """What the column is cast to first."""
    convert: Callable[[Any], Any]
    """What is then done with each value but None."""


def has_paths(path: Path, schema: "pa.Schema") -> bool:
    """Whether the column of images has paths. Raises SourceUnavailable if there are no images at all."""
    import pyarrow as pa

    place = schema.get_field_index("image")
    image = schema.field(place).type if place >= 0 else pa.null()
    children = {child.name: child.type for child in image} if pa.types.is_struct(image) else {}
    data, name = children.get("bytes", pa.null()), children.get("path", pa.null())
    if not (pa.types.is_binary(data) or pa.types.is_large_binary(data) or pa.types.is_binary_view(data)):
        raise SourceUnavailable(
            f"{path} has no column image{{bytes,path}} with bytes that are binary; its columns are "
            + ", ".join(f"{field.name} ({field.type})" for field in schema)
        )
    return _is_text(name)


def conversion(path: Path, schema: "pa.Schema", column: str) -> Conversion:
    """How to convert a column to metadata. Raises SourceUnavailable if there is no way."""
    import pyarrow as pa

    kind = _value_type(path, schema, column)
    if not is_metadata_key(column):
        raise SourceUnavailable(
            f"the column {column!r} of {path} cannot be metadata: "
            "rename it to a letter or underscore, then up to 63 letters, digits and underscores"
        )
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return Conversion(pa.string(), _iso)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Conversion(pa.float64(), _finite)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if _is_plain(kind) or (is_list and _is_text(kind.value_type)):
        return Conversion(None, lambda value: value)
    raise SourceUnavailable(
        f"the column {column!r} of {path} is {kind}, which metadata cannot hold: "
        "name one of strings, numbers, booleans, times, or lists of strings"
    )


def label_column(path: Path, schema: "pa.Schema", column: str) -> str | None:
    """The column that holds labels; None if it is the default one and cannot.

    Raises SourceUnavailable for another that is not there or cannot.
    """
    is_default = column == SourceOptions().label_column
    if is_default and schema.get_field_index(column) < 0:
        return None
    if _is_plain(kind := _value_type(path, schema, column)):
        return column
    if is_default:
        return None
    raise SourceUnavailable(
        f"the column {column!r} of {path} is {kind}, which no label is: name one of strings or integers"
    )


def label_names(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str] | None:
    """Names of a column's integer labels from what `datasets` writes into the schema, or None."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names: list[str] = features[column]["names"]
    except (ValueError, KeyError, TypeError):  # Written by another library, or another version of that one.
        return None
    return names


def _value_type(path: Path, schema: "pa.Schema", column: str) -> "pa.DataType":
    import pyarrow as pa

    place = schema.get_field_index(column)
    if place < 0:
        raise SourceUnavailable(
            f"{path} has no column {column!r}, or more than one; its columns are {', '.join(schema.names)}"
        )
    kind = schema.field(place).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_plain(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _iso(text: str) -> str:
    return text.replace(" ", "T", 1)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
