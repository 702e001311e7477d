"""Where images come from: a folder, whose sub-folders are labels, or a Parquet file.

A source hands out encoded bytes by number; decoding, and what to do with broken images, is the
dataset's business (`trainer.dataset`).
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from contracts.image_files import IMAGE_SUFFIXES, label_names

_FINGERPRINT_IMAGES = 64


class Source(Protocol):
    """Numbered encoded images, with labels where there are any."""

    @property
    def classes(self) -> list[str] | None:
        """Names of the labels, or None if the images are unlabelled."""
        ...

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """What to call an image in a message."""
        ...

    def label(self, number: int) -> int | None:
        """Class number of an image, or None if it has none."""
        ...

    def read(self, number: int) -> bytes:
        """The encoded image. Raises OSError if its file is gone."""
        ...


class FolderSource:
    """Every image below a folder, in sorted order; the first sub-folder is its label."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not self._paths:
            raise ValueError(
                f"{root} holds no images: looked for {', '.join(sorted(IMAGE_SUFFIXES))} below it"
            )
        folders = [p.relative_to(root).parts[0] if p.parent != root else None for p in self._paths]
        labelled = None not in folders
        self.classes: list[str] | None = sorted({f for f in folders if f}) if labelled else None
        places = {name: place for place, name in enumerate(self.classes or ())}
        self._labels = [places.get(folder or "") for folder in folders]

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, number: int) -> str:
        return str(self._paths[number].relative_to(self._root))

    def label(self, number: int) -> int | None:
        return self._labels[number]

    def read(self, number: int) -> bytes:
        return self._paths[number].read_bytes()


class ParquetSource:
    """A Parquet file with `image{bytes,path}` and, if labelled, an integer `label`.

    The encoded bytes are held in memory. Class names come from the schema's `huggingface` metadata.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path
        try:
            schema = pq.read_schema(path)
            columns = [name for name in ("image", "label") if name in schema.names]
            table = pq.read_table(path, columns=columns)
        except (pa.ArrowException, OSError) as exc:
            raise ValueError(f"{path} cannot be read as Parquet: {exc}") from exc
        kind = table.schema.field("image").type if "image" in columns else None
        place = kind.get_field_index("bytes") if isinstance(kind, pa.StructType) else -1
        if place < 0:
            raise ValueError(
                f"{path} has no column image{{bytes,path}}; its columns are "
                f"{', '.join(f'{field.name} ({field.type})' for field in schema)}"
            )
        if table.num_rows == 0:
            raise ValueError(f"{path} holds no images: it has no rows")
        # In chunks, as read: one array of bytes ends at 2 GiB.
        self._bytes = table.column("image").flatten()[place]
        self._labels: list[int | None] | None = None
        self.classes: list[str] | None = None
        if "label" in columns:
            column = table.column("label")
            if not pa.types.is_integer(column.type):
                raise ValueError(f"{path} has labels of type {column.type}: give integers, or leave them out")
            # -1 stands for "no label" in the hidden test sets of `datasets`.
            labels = [None if label is None or label < 0 else int(label) for label in column.to_pylist()]
            self._labels = labels
            count = max((label for label in labels if label is not None), default=-1) + 1
            names = label_names(schema.metadata) or [str(number) for number in range(count)]
            if len(names) < count:
                raise ValueError(f"{path} names {len(names)} classes, and its largest label is {count - 1}")
            self.classes = names

    def __len__(self) -> int:
        return len(self._bytes)

    def name(self, number: int) -> str:
        return f"{self._path.name}, row {number}"

    def label(self, number: int) -> int | None:
        return None if self._labels is None else self._labels[number]

    def read(self, number: int) -> bytes:
        encoded: bytes | None = self._bytes[number].as_py()
        return encoded or b""


class ConcatSource:
    """Several sources as one. Labels are kept if all have the same classes."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._places = [(source, i) for source in self._sources for i in range(len(source))]
        first = self._sources[0].classes
        self.classes = first if all(source.classes == first for source in self._sources) else None

    def __len__(self) -> int:
        return len(self._places)

    def name(self, number: int) -> str:
        source, place = self._places[number]
        return source.name(place)

    def label(self, number: int) -> int | None:
        source, place = self._places[number]
        return None if self.classes is None else source.label(place)

    def read(self, number: int) -> bytes:
        source, place = self._places[number]
        return source.read(place)


def fingerprint(source: Source) -> str:
    """SHA-256, in hex, over the number of images and a few of them: enough to tell two sources apart."""
    count = len(source)
    digest = hashlib.sha256(str(count).encode())
    for number in range(0, count, max(1, count // _FINGERPRINT_IMAGES)):
        with suppress(OSError):  # An image that is gone tells sources apart as well.
            digest.update(source.read(number))
        digest.update(b"\0")
    return digest.hexdigest()


def open_source(paths: Sequence[Path]) -> Source:
    """The images of all `paths`, each a folder or a `.parquet` file. Raises ValueError."""
    if not paths:
        raise ValueError("no images given: name a folder or a Parquet file with --images")
    sources: list[Source] = []
    for path in paths:
        if path.is_dir():
            sources.append(FolderSource(path))
        elif path.suffix == ".parquet" and path.is_file():
            sources.append(ParquetSource(path))
        elif not path.exists():
            raise ValueError(f"{path} does not exist: --images takes a folder or a .parquet file")
        else:
            raise ValueError(f"{path} is neither a folder nor a .parquet file")
    return sources[0] if len(sources) == 1 else ConcatSource(sources)
