"""Images to index: those below a folder, and the rows of a Parquet file.

A source is walked once, in a fixed order, holding one folder's names or a few rows at a time, so that
10⁹ images take no more memory than a thousand. What cannot be read becomes a `Failure`, never an end.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from contracts.image_files import IMAGE_SUFFIXES, label_names
from index.protocol import Metadata

ROWS_AT_A_TIME = 64

MAX_IMAGE_BYTES = 128 * 2**20
"""Larger files are not even read. The encoder's own limit, which may be lower, is its own to say."""

Labels = Literal["none", "folders"]


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image to index, not read yet."""

    id: str
    uri: str
    num_bytes: int
    version: Metadata
    """Kept in the item's metadata; another value means that the image has changed."""
    label: str | None
    read: Callable[[], bytes]
    """The image file's bytes. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that was left out, and why."""

    id: str
    reason: str


class Source(Protocol):
    """Images of one PATH."""

    @property
    def uri_prefix(self) -> str:
        """What the `uri` of every image of this source begins with."""
        ...

    def count(self) -> int:
        """How many images and failures a walk will give, for the progress bar."""
        ...

    def walk(self) -> Iterator[SourceImage | Failure]:
        """The images, each with an id of its own."""
        ...


def open_source(path: Path, labels: Labels = "none", prefix: str = "") -> Source:
    """The source at `path`, whose ids begin with `prefix`. Raises ValueError if there is none."""
    if path.is_dir():
        return FolderSource(path, labels, prefix)
    if path.suffix.lower() in (".parquet", ".pq") and path.is_file():
        return ParquetSource(path, prefix)
    if not path.exists():
        raise ValueError(f"{path} does not exist: name a folder, an image or a Parquet file")
    return FolderSource(path.parent, labels, prefix, only=path.name)


def read_image(image: SourceImage) -> bytes | Failure:
    """The image's bytes, or why there are none."""
    if image.num_bytes > MAX_IMAGE_BYTES:
        return Failure(image.id, f"the file has {image.num_bytes} bytes and the limit is {MAX_IMAGE_BYTES}")
    try:
        return image.read()
    except OSError as exc:
        return Failure(image.id, f"the file cannot be read: {exc.strerror}")


class FolderSource:
    """Images below a folder, in the order of their ids' bytes.

    An id is the path relative to the folder, with forward slashes. Hidden files and folders are left
    out, as are files that do not look like images by name. Links to folders are not followed, so
    that no loop can arise; links to files are.
    """

    def __init__(
        self, root: Path, labels: Labels = "none", prefix: str = "", only: str | None = None
    ) -> None:
        self._root = root.resolve()
        self._labels = labels
        self._prefix = prefix
        self._only = only

    @property
    def uri_prefix(self) -> str:
        return self._root.as_uri().rstrip("/") + "/"

    def count(self) -> int:
        return 1 if self._only else sum(1 for _ in self._walk(self._root))

    def walk(self) -> Iterator[SourceImage | Failure]:
        if self._only:
            yield self._describe(self._root / self._only)
            return
        for path in self._walk(self._root):
            yield path if isinstance(path, Failure) else self._describe(path)

    def _walk(self, folder: Path) -> Iterator[Path | Failure]:
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=_walk_order)
        except OSError as exc:
            yield Failure(self._id(folder), f"the folder cannot be read: {exc.strerror}")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path))
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not _is_folder(entry):
                yield Path(entry.path)

    def _describe(self, path: Path) -> SourceImage | Failure:
        id = self._id(path)
        try:
            facts = path.stat()
        except OSError as exc:
            return Failure(id, f"the file cannot be read: {exc.strerror}")
        if not stat.S_ISREG(facts.st_mode):
            return Failure(id, "not a regular file")
        version: Metadata = {"file_bytes": facts.st_size, "file_mtime_s": facts.st_mtime}
        return _checked(
            SourceImage(id, path.as_uri(), facts.st_size, version, self._label(path), path.read_bytes)
        )

    def _id(self, path: Path) -> str:
        return self._prefix + path.relative_to(self._root).as_posix()

    def _label(self, path: Path) -> str | None:
        folders = path.relative_to(self._root).parts[:-1]
        return folders[0] if self._labels == "folders" and folders else None


class ParquetSource:
    """Rows of a Parquet file with a column `image{bytes,path}` and perhaps `label`.

    An id is `image.path`, or else the file's name and the row's number; rows that share a path are
    one item, of which the last row wins. Labels that are numbers become the names in the schema's
    `huggingface` metadata, where there are any.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        """Raises ValueError if it is not Parquet, or has no such column."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path.resolve()
        self._prefix = prefix
        try:
            self._file = pq.ParquetFile(self._path)
            schema = self._file.schema_arrow
        except (pa.ArrowException, OSError) as exc:
            raise ValueError(f"{path} cannot be read as Parquet: {exc}") from exc
        image = schema.field("image").type if "image" in schema.names else None
        if image is None or not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
            raise ValueError(
                f"{path} has no column image{{bytes,path}}; its columns are {', '.join(schema.names)}"
            )
        self._columns = [name for name in ("image", "label") if name in schema.names]
        self._names = label_names(schema.metadata)

    @property
    def uri_prefix(self) -> str:
        return self._path.as_uri() + "#row="

    def count(self) -> int:
        num_rows: int = self._file.metadata.num_rows
        return num_rows

    def walk(self) -> Iterator[SourceImage | Failure]:
        import pyarrow as pa

        number = 0
        batches = self._file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=self._columns)
        try:
            for batch in batches:
                for row in batch.to_pylist():
                    yield self._describe(number, row)
                    number += 1
        except (pa.ArrowException, OSError) as exc:
            yield Failure(self._path.name, f"the file cannot be read from row {number} on: {exc}")

    def _describe(self, number: int, row: dict[str, Any]) -> SourceImage | Failure:
        image = row["image"] or {}
        data = image.get("bytes")
        id = self._prefix + (image.get("path") or f"{self._path.name}/{number:09d}")
        if data is None:
            return Failure(id, f"row {number} has no image.bytes")
        version: Metadata = {"file_bytes": len(data), "file_blake2": _digest(data)}
        uri = f"{self.uri_prefix}{number}"
        return _checked(SourceImage(id, uri, len(data), version, self._label(row), lambda: data))

    def _label(self, row: dict[str, Any]) -> str | None:
        label = row.get("label")
        if isinstance(label, int) and self._names and 0 <= label < len(self._names):
            return self._names[label]
        return None if label is None else str(label)


def _walk_order(entry: os.DirEntry[str]) -> bytes:
    # With its slash a folder sorts where the paths below it do, so that the whole walk is in byte order.
    return os.fsencode(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that points to itself; reading it will say so.
        return False


def _checked(image: SourceImage) -> SourceImage | Failure:
    try:
        image.id.encode()
    except UnicodeEncodeError:
        return Failure(ascii(image.id), "the name is not UTF-8, and an id must be: rename the file")
    return image


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
