"""What every source of images does.

A source is scanned once, in a fixed order and in bounded memory, so that 10⁹ images take no more of it
than a thousand. The scan gives the place of each image, which is small and JSON; any set of places can
later be read by anybody who opens the same source. What cannot be read becomes a `Failure`, never an end.

`images` may be read by one thread and the `read` of each image be called by another.
"""

import hashlib
import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, Protocol

from contracts.image_files import IMAGE_SUFFIXES
from index.protocol import Metadata

MAX_IMAGE_BYTES = 128 * 2**20
"""Larger files are not even read. The encoder's own limit, which may be lower, is its own to say."""

Labels = Literal["none", "folders"]

Place = str | int | list[str | int]
"""Where one image is in its source: a path, a row, a member."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image that a scan came across."""

    id: str
    place: Place


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image to index, not read yet."""

    id: str
    place: Place
    uri: str
    num_bytes: int
    version: Metadata
    """Kept in the item's metadata; another value means that the image has changed."""
    label: str | None
    read: Callable[[], bytes]
    """The image file's bytes. Raises OSError."""
    metadata: Metadata = field(default_factory=dict)
    """What the source says about it, such as other columns of its row."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that was left out, and why."""

    id: str
    reason: str
    place: Place | None = None
    """None where it is not known: a folder that cannot be listed, a file that ends too soon."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How images of a source become items."""

    prefix: str = ""
    """Put before every id."""
    labels: Labels = "none"
    """`folders`: the first folder of an image's path below its source is its label."""
    label_column: str = "label"
    """Column of a Parquet file that holds labels."""
    metadata_columns: tuple[str, ...] = ()
    """Columns of a Parquet file that go into the items' metadata."""
    include: tuple[str, ...] = ()
    """Patterns, of which a path must match one; all match if there are none. `*` stands for slashes too."""
    exclude: tuple[str, ...] = ()
    """Patterns, of which a path must match none."""

    def admits(self, path: str) -> bool:
        """Whether an image of this path in its source is wanted."""
        if any(fnmatchcase(path, pattern) for pattern in self.exclude):
            return False
        return not self.include or any(fnmatchcase(path, pattern) for pattern in self.include)

    def label_of(self, path: str) -> str | None:
        """The label that a path gives."""
        folder, slash, _ = path.partition("/")
        return folder if folder and slash and self.labels == "folders" else None


class SourceUnavailable(Exception):
    """The source is not there, is not what its name says, or may not be read."""


class Source(Protocol):
    """Images of one path or URL.

    Opening it raises SourceUnavailable, and so does reading it once it went away. Those that are reached
    through a network raise BackendUnavailable while it is down.
    """

    @property
    def uri_prefix(self) -> str:
        """What the `uri` of every image of this source begins with."""
        ...

    @property
    def version(self) -> str:
        """Another value means that places found earlier no longer hold; empty where they always do."""
        ...

    def scan(self, after: Place | None = None) -> Iterator[Found | Failure]:
        """Every image, in a fixed order, or those that come after a place found earlier."""
        ...

    def images(self, places: Iterable[Place]) -> Iterator[SourceImage | Failure]:
        """One entry for each place; places come in the order of a scan, perhaps with gaps."""
        ...

    def count(self) -> int:
        """How many images and failures a scan gives, for a progress bar; cheaper than the scan if it can."""
        ...


def walk(source: Source) -> Iterator[SourceImage | Failure]:
    """All images of a source in one go, with the failures of the scan between them."""
    failures: deque[Failure] = deque()

    def places() -> Iterator[Place]:
        for entry in source.scan():
            if isinstance(entry, Failure):
                failures.append(entry)
            else:
                yield entry.place

    for image in source.images(places()):
        while failures:
            yield failures.popleft()
        yield image
    yield from failures


def read_image(image: SourceImage) -> bytes | Failure:
    """The image's bytes, or why there are none."""
    if image.num_bytes > MAX_IMAGE_BYTES:
        reason = f"the file has {image.num_bytes} bytes and the limit is {MAX_IMAGE_BYTES}"
        return Failure(image.id, reason, image.place)
    try:
        return image.read()
    except OSError as exc:
        return Failure(image.id, f"the file cannot be read: {exc.strerror or exc}", image.place)


def found(path: str, place: Place, options: SourceOptions) -> Found | Failure:
    """What a scan says of an image of this path in its source."""
    id = options.prefix + path
    if printable(id) != id:
        return Failure(printable(id), "the name is not UTF-8, and an id must be: rename the file")
    return Found(id, place)


def printable(id: str) -> str:
    """The id, or Python's notation of one that is not Unicode, which could be neither stored nor shown."""
    try:
        id.encode()
    except UnicodeEncodeError:
        return ascii(id)
    return id


def looks_like_image(path: str) -> bool:
    """Whether a path in a source is an image's by its name, and neither it nor a folder in it is hidden."""
    if any(part.startswith(".") and part not in (".", "..") for part in path.split("/")):
        return False
    return posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES


def content_version(data: bytes) -> Metadata:
    """The version of an image that only its bytes tell apart from another."""
    return {
        "file_bytes": len(data),
        "file_blake2": hashlib.blake2b(data, digest_size=8).hexdigest(),
    }
