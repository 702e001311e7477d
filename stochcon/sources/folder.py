"""Images below a folder, and whatever else is a file of its own."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path

from contracts.image_files import IMAGE_SUFFIXES
from index.protocol import Metadata
from stochcon.sources.source import (
    Failure,
    Found,
    Place,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    found,
    printable,
)

Admits = Callable[[Path], bool]
"""Whether a file may be read, wherever its links lead to."""


def anywhere(_: Path) -> bool:
    """For sources of the user's own: every file may be read."""
    return True


class FolderSource:
    """Images below a folder, in the order of their ids' bytes. A place is the path relative to it.

    An id is that path, with forward slashes. Hidden files and folders are left out, as are files that do
    not look like images by name. Links to folders are not followed, so that no loop can arise; links to
    files are, as long as `admits` allows where they lead to.
    """

    version = ""

    def __init__(
        self, root: Path, options: SourceOptions, admits: Admits = anywhere, only: str | None = None
    ) -> None:
        """`only` makes it a source of that one file. Raises SourceUnavailable if there is no such folder."""
        self._root = root.resolve()
        self._options = options
        self._admits = admits
        self._only = only
        self._check_there()

    @property
    def uri_prefix(self) -> str:
        return self._root.as_uri().rstrip("/") + "/"

    def count(self) -> int:
        return sum(1 for _ in self.scan())

    def scan(self, after: Place | None = None) -> Iterator[Found | Failure]:
        if self._only:
            if after is None:
                yield found(self._only, self._only, self._options)
            return
        start = os.fsencode(str(after)) if after is not None else b""
        for path in self._walk(self._root, b"", start):
            if isinstance(path, Failure):
                yield path
            elif self._options.admits(path):
                yield found(path, path, self._options)

    def images(self, places: Iterable[Place]) -> Iterator[SourceImage | Failure]:
        for place in places:
            path = str(place)
            id, label = self._options.prefix + path, self._options.label_of(path)
            image = describe_file(self._root / path, id, path, label, self._admits)
            if isinstance(image, Failure):
                self._check_there()  # A disk that was taken away is not so many missing files.
            yield image

    def _walk(self, folder: Path, inside: bytes, start: bytes) -> Iterator[str | Failure]:
        """Paths below `folder`, whose own path is `inside`, that sort after `start`."""
        try:
            with os.scandir(folder) as listing:
                entries = sorted(((_walk_key(entry), entry) for entry in listing), key=itemgetter(0))
        except OSError as exc:
            if folder == self._root:
                raise SourceUnavailable(f"{self._root} cannot be read: {exc.strerror}") from exc
            id = self._options.prefix + os.fsdecode(inside).rstrip("/")
            yield Failure(printable(id), f"the folder cannot be read: {exc.strerror}")
            return
        for key, entry in entries:
            path = inside + key
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if path > start or start.startswith(path):
                    yield from self._walk(Path(entry.path), path, start)
            elif path > start and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not _is_folder(entry):
                yield os.fsdecode(path)

    def _check_there(self) -> None:
        if not self._root.is_dir():
            raise SourceUnavailable(f"{self._root} is not a folder, or no longer there")


def describe_file(
    path: Path, id: str, place: Place, label: str | None, admits: Admits
) -> SourceImage | Failure:
    """An image that is a file of its own."""
    # Of what lies elsewhere not even whether it exists is told.
    if not admits(path):
        return Failure(id, "the file lies outside of the folders that may be read", place)
    try:
        facts = path.stat()
    except OSError as exc:
        return Failure(id, f"the file cannot be read: {exc.strerror}", place)
    if not stat.S_ISREG(facts.st_mode):
        return Failure(id, "not a regular file", place)
    version: Metadata = {"file_bytes": facts.st_size, "file_mtime_s": facts.st_mtime}
    return SourceImage(id, place, path.as_uri(), facts.st_size, version, label, path.read_bytes)


def _walk_key(entry: os.DirEntry[str]) -> bytes:
    # With its slash a folder sorts where the paths below it do, so that the whole walk is in byte order.
    return os.fsencode(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that points to itself; reading it will say so.
        return False
