"""Rows of a Parquet file."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from index.protocol import Metadata
from stochcon.sources.columns import conversion, has_paths, label_column, label_names
from stochcon.sources.source import (
    Failure,
    Found,
    Place,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    content_version,
    found,
    printable,
)

ROWS_AT_A_TIME = 64

_BUFFER_BYTES = 2**20
"""Read at once of a column, instead of all that a row group has of it."""

_Row = dict[str, Any] | str
"""What is in a row, or why it cannot be read."""


class ParquetSource:
    """Rows of a Parquet file with a column `image{bytes,path}` and perhaps one of labels. A place is a row.

    An id is `image.path`, or else the file's name and the row's number; rows that share a path are one
    item, of which the last row stored stays. Labels that are numbers become the names in the schema's
    `huggingface` metadata, where there are any. Of other columns, times and dates become ISO strings, and
    what is no finite number None.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Raises SourceUnavailable if it is not Parquet, or has no column that is needed, of its type."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as exc:
            raise SourceUnavailable(
                f"{path} needs pyarrow, which is not installed: pip install pyarrow"
            ) from exc

        self._path = path.resolve()
        self._options = options
        try:
            facts = self._path.stat()
            self._file = pq.ParquetFile(
                self._path, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            )
            schema = self._file.schema_arrow
        except (pa.ArrowException, OSError) as exc:
            raise SourceUnavailable(f"{path} cannot be read as Parquet: {exc}") from exc
        self.version = f"{facts.st_size}-{facts.st_mtime_ns}"
        self._has_paths = has_paths(path, schema)
        self._label_column = label_column(path, schema, options.label_column)
        self._label_names = label_names(schema.metadata, options.label_column)
        self._conversions = {name: conversion(path, schema, name) for name in options.metadata_columns}
        labels = [self._label_column] if self._label_column else []
        self._columns = list(dict.fromkeys(["image", *labels, *self._conversions]))
        groups = self._file.metadata
        sizes = (groups.row_group(number).num_rows for number in range(groups.num_row_groups))
        self._starts: list[int] = list(accumulate(sizes, initial=0))

    @property
    def uri_prefix(self) -> str:
        return self._path.as_uri() + "#row="

    def count(self) -> int:
        if self._options.include or self._options.exclude:
            return sum(1 for _ in self.scan())
        return self._starts[-1]

    def scan(self, after: Place | None = None) -> Iterator[Found | Failure]:
        first = int(str(after)) + 1 if after is not None else 0
        for row, path in self._paths(first):
            if self._options.admits(path):
                yield found(path, row, self._options)

    def images(self, places: Iterable[Place]) -> Iterator[SourceImage | Failure]:
        rows: Iterator[tuple[int, _Row]] = iter(())
        end = 0
        for place in places:
            wanted = int(str(place))
            if wanted >= end:
                # Row groups without a place are passed over, and rows within a group read to the next place.
                group = bisect_right(self._starts, wanted) - 1
                end = self._starts[group + 1]
                rows = self._rows_of(group, wanted, self._columns)
            yield self._describe(wanted, next(values for row, values in rows if row == wanted))

    def _paths(self, first: int) -> Iterator[tuple[int, str]]:
        """The path of each row from `first` on, without its pixels."""
        if not self._has_paths:
            for row in range(first, self._starts[-1]):
                yield row, self._numbered(row)
            return
        for group, end in enumerate(self._starts[1:]):
            if end > first:
                for row, values in self._rows_of(group, first, ["image.path"]):
                    yield row, self._path_of(row, values)

    def _rows_of(self, group: int, first: int, columns: list[str]) -> Iterator[tuple[int, _Row]]:
        """Rows of a row group from that number on."""
        import pyarrow as pa

        row, end = self._starts[group], self._starts[group + 1]
        try:
            for batch in self._file.iter_batches(ROWS_AT_A_TIME, row_groups=[group], columns=columns):
                skipped = min(max(0, first - row), len(batch))
                yield from enumerate(self._values(batch.slice(skipped)), row + skipped)
                row += len(batch)
        except (pa.ArrowException, OSError) as exc:
            # What is damaged in one group says nothing of the next.
            for number in range(max(row, first), end):
                yield number, str(exc)

    def _values(self, batch: Any) -> list[_Row]:
        """The rows of a `pyarrow.RecordBatch`."""
        import pyarrow as pa

        casts = {name: how.arrow_type for name, how in self._conversions.items() if how.arrow_type}
        try:
            fields = [field.with_type(casts.get(field.name, field.type)) for field in batch.schema]
            rows: list[_Row] = batch.cast(pa.schema(fields), safe=False).to_pylist()
        except (pa.ArrowException, ValueError) as exc:  # ValueError: text that is not UTF-8.
            if len(batch) == 1:
                return [str(exc)]
            return [row for number in range(len(batch)) for row in self._values(batch.slice(number, 1))]
        return rows

    def _describe(self, row: int, values: _Row) -> SourceImage | Failure:
        if isinstance(values, str):
            id = printable(self._options.prefix + self._numbered(row))
            return Failure(id, f"row {row} cannot be read: {values}", row)
        image = values["image"] or {}
        path = self._path_of(row, values)
        id = self._options.prefix + path
        data = image.get("bytes")
        if data is None:
            return Failure(id, f"row {row} has no image.bytes", row)
        metadata: Metadata = {
            name: None if values[name] is None else how.convert(values[name])
            for name, how in self._conversions.items()
        }
        label = self._label(values) or self._options.label_of(path)
        uri = f"{self.uri_prefix}{row}"
        return SourceImage(id, row, uri, len(data), content_version(data), label, lambda: data, metadata)

    def _path_of(self, row: int, values: _Row) -> str:
        image = None if isinstance(values, str) else values["image"]
        path: str | None = image["path"] if image and self._has_paths else None
        return path or self._numbered(row)

    def _numbered(self, row: int) -> str:
        return f"{self._path.name}/{row:09d}"

    def _label(self, values: dict[str, Any]) -> str | None:
        label = values[self._label_column] if self._label_column else None
        names = self._label_names
        if names and isinstance(label, int) and 0 <= label < len(names):
            return names[label]
        return None if label is None else str(label)
