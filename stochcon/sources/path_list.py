"""Files that a list names."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from stochcon.sources.folder import Admits, anywhere, describe_file
from stochcon.sources.source import (
    Failure,
    Found,
    Place,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    found,
)

MAX_LINE_BYTES = 2**13
"""Twice the longest path that Linux opens."""

_PROBE_BYTES = 2**16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class PathListSource:
    """Files named by a UTF-8 text with a path in each line. A place is the path and its line's first byte.

    Blank lines and lines that begin with `#` are left out. Relative paths are relative to the list's folder.
    An id is the path as it is written, without a leading `./` or `/`. The files may have any names, as long
    as `admits` allows where they lie.
    """

    uri_prefix = "file:///"

    def __init__(self, path: Path, options: SourceOptions, admits: Admits = anywhere) -> None:
        """Raises SourceUnavailable if it cannot be read or is no text."""
        self._path = path.resolve()
        self._options = options
        self._admits = admits
        with self._open() as file:
            if b"\0" in file.read(_PROBE_BYTES):
                raise SourceUnavailable(f"{path} is not a list of paths: give a text in UTF-8, a path a line")
        facts = self._path.stat()
        self.version = f"{facts.st_size}-{facts.st_mtime_ns}"

    def count(self) -> int:
        return sum(1 for _ in self.scan())

    def scan(self, after: Place | None = None) -> Iterator[Found | Failure]:
        with self._open() as file:
            if after is not None:
                _, offset = _unpack(after)
                file.seek(offset)
                next(_lines(file), None)
            for offset, line in _lines(file):
                entry = self._find(offset, line)
                if entry is not None:
                    yield entry

    def images(self, places: Iterable[Place]) -> Iterator[SourceImage | Failure]:
        for place in places:
            image = self._describe(place)
            if isinstance(image, Failure):
                self._open().close()  # A disk that was taken away is not so many missing files.
            yield image

    def _find(self, offset: int, line: bytes) -> Found | Failure | None:
        if not line.strip() or line.startswith(b"#"):
            return None
        try:
            written = line.decode()
        except UnicodeDecodeError:
            id = self._options.prefix + ascii(line)
            return Failure(id, f"the line at byte {offset} is not UTF-8: save the list as UTF-8")
        if len(line) > MAX_LINE_BYTES or "\0" in written:
            id = f"{self._options.prefix}{written[:100]}"
            return Failure(id, f"the line at byte {offset} is no path: give the path of one file")
        path = _relative(written)
        return found(path, [written, offset], self._options) if self._options.admits(path) else None

    def _describe(self, place: Place) -> SourceImage | Failure:
        written, _ = _unpack(place)
        path = _relative(written)
        id, label = self._options.prefix + path, self._options.label_of(path)
        real = Path(os.path.realpath(self._path.parent / written))
        return describe_file(real, id, place, label, self._admits)

    def _open(self) -> IO[bytes]:
        try:
            return self._path.open("rb")
        except OSError as exc:
            raise SourceUnavailable(f"{self._path} cannot be read: {exc.strerror}") from exc


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines from here on without their ends, each with its first byte's place in the file."""
    offset = file.tell()
    while part := file.readline(MAX_LINE_BYTES + 1):
        line = part.removeprefix(_BYTE_ORDER_MARK) if offset == 0 else part
        start = offset
        offset += len(part)
        while len(part) > MAX_LINE_BYTES and not part.endswith(b"\n"):
            part = file.readline(MAX_LINE_BYTES + 1)
            offset += len(part)
        yield start, line.rstrip(b"\r\n")


def _relative(written: str) -> str:
    while written.startswith("./"):
        written = written[2:]
    return written.lstrip("/")


def _unpack(place: Place) -> tuple[str, int]:
    assert isinstance(place, list)
    written, offset = place
    return str(written), int(offset)
