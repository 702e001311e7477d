"""Reading Parquet files of images: pyarrow's part of it, and its errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.image_files import label_names
from trainer.sources.labels import Labels, check_largest, number_names
from trainer.sources.source import no_column


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """What a Parquet file says of itself."""

    path: Path
    schema: pa.Schema
    group_rows: list[int]
    group_bytes: list[int]
    """Encoded images of each row group, before the file's own compression."""


def inspect(path: Path) -> ParquetFile:
    """Raises ValueError if the file has no images."""
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(path, exc) from exc
    kind = schema.field("image").type if "image" in schema.names else pa.null()
    place = kind.get_field_index("bytes") if isinstance(kind, pa.StructType) else -1
    if place < 0 or kind.field(place).type not in (pa.binary(), pa.large_binary()):
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise ValueError(f"{path} has no column image{{bytes,path}}; its columns are {columns}")
    if metadata.num_rows == 0:
        raise ValueError(f"{path} holds no images: it has no rows")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return ParquetFile(
        path, schema, [group.num_rows for group in groups], [_image_bytes(group) for group in groups]
    )


def _image_bytes(group: pq.RowGroupMetaData) -> int:
    columns = (group.column(number) for number in range(group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema == "image.bytes")


def read_images(path: Path, group: int) -> pa.ChunkedArray:
    """The encoded images of a row group. Raises OSError."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=["image.bytes"], use_threads=False)
    except (pa.ArrowException, OSError) as exc:
        raise OSError(f"row group {group} of {path} cannot be read: {exc}") from exc
    # In chunks, as read: one array of bytes ends at 2 GiB.
    (images,) = table.column("image").flatten()
    return images


def read_labels(files: Sequence[ParquetFile]) -> tuple[Labels | None, list[str] | None]:
    """Labels of all rows and names of the classes; None if a file has none, or not those of the others."""
    labels: list[npt.NDArray[np.int64]] = []
    for file in files:
        if "label" not in file.schema.names:
            return None, None
        kind = file.schema.field("label").type
        if not pa.types.is_integer(kind):
            raise ValueError(f"{file.path} has labels of type {kind}: give integers, or leave them out")
        labels.append(_read_column(file.path, "label", pa.int64(), -1))
    names = [label_names(file.schema.metadata) for file in files]
    for file, numbers, known in zip(files, labels, names, strict=True):
        largest = int(numbers.max())
        check_largest(largest, file.path)
        if known is not None and len(known) <= largest:
            raise ValueError(f"{file.path} names {len(known)} classes, and its largest label is {largest}")
    if any(known != names[0] for known in names):
        return None, None
    # -1 stands for "no label" in the hidden test sets of `datasets`.
    merged = np.maximum(np.concatenate(labels), -1).astype(np.int32)
    if names[0] is not None:
        return merged, names[0]
    count = int(merged.max()) + 1
    return (merged, number_names(count)) if count else (None, None)


def read_targets(file: ParquetFile, column: str) -> npt.NDArray[np.float64]:
    """A numeric column, float64 [rows]. Raises ValueError."""
    if column not in file.schema.names:
        raise no_column(file.path, column, [f"{field.name} ({field.type})" for field in file.schema])
    kind = file.schema.field(column).type
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    if not any(is_kind(kind) for is_kind in numeric):
        raise ValueError(f"{file.path} has {column} of type {kind}: targets are numbers")
    return _read_column(file.path, column, pa.float64(), np.nan)


def _read_column(path: Path, column: str, kind: pa.DataType, missing: float) -> npt.NDArray[Any]:
    """A column as numbers of one kind. Raises ValueError."""
    try:
        values = pq.read_table(path, columns=[column]).column(column)
        numbers: npt.NDArray[Any] = values.cast(kind).fill_null(missing).to_numpy()
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(path, exc) from exc
    return numbers


def _unreadable(path: Path, exc: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read as Parquet: {exc}")
