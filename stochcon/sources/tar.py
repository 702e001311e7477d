"""Images in a .tar, which may be compressed."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from index.protocol import Metadata
from stochcon.sources.members import member_path, member_prefix, member_uri
from stochcon.sources.source import (
    MAX_IMAGE_BYTES,
    Failure,
    Found,
    Place,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    content_version,
    found,
    looks_like_image,
    printable,
)

MAX_HEADER_BYTES = 2**20
"""More than any long name or list of attributes; what claims to be larger is damage, or meant to do harm."""

_COMPRESSIONS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
"""By the first bytes of a file."""

_ZSTD = b"\x28\xb5\x2f\xfd"

_DAMAGE = (
    tarfile.TarError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    OverflowError,
    RecursionError,
)
"""What reading a damaged archive raises."""


class TarSource:
    """Images in a .tar, in the order of its members. A place is a member's path, first byte and size.

    An id is the member's name. Hidden members and those that do not look like images by name are left
    out. Links, devices and sparse files named like images are failures: a link has no bytes of its own, and
    where it leads to another image of the archive, that one is read under its own name.

    An archive may have members of one name, of which `tar -x` keeps the last. Here each is read, under one
    id, and the one that is stored last stays: the last in the archive in a run on its own, but whichever
    came last in a job that many workers share.

    A compressed archive can only be read from its beginning on. Each scan and each set of places does
    that, and keeps the images' bytes until they are encoded.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Raises SourceUnavailable if it is no tar file."""
        self._path = path.resolve()
        self._options = options
        self._open_file: Callable[..., Any] = open
        self._is_compressed = False
        try:
            facts = self._path.stat()
            with self._path.open("rb") as raw:
                start = raw.read(8)
            for magic, opener in _COMPRESSIONS.items():
                if start.startswith(magic):
                    self._open_file, self._is_compressed = opener, True
            if start.startswith(_ZSTD):
                raise SourceUnavailable(f"{path} is compressed with zstd, which is not read: unpack it first")
            with self._open() as file, _open_tar(file):
                pass
        except _DAMAGE as exc:
            raise SourceUnavailable(f"{path} cannot be read as a tar file: {exc}") from exc
        self.version = f"{facts.st_size}-{facts.st_mtime_ns}"

    @property
    def uri_prefix(self) -> str:
        return member_prefix(self._path)

    def count(self) -> int:
        return sum(1 for _ in self.scan())

    def scan(self, after: Place | None = None) -> Iterator[Found | Failure]:
        start = 0
        if after is not None:
            _, offset, size = _unpack(after)
            start = offset + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        with self._open_there() as file:
            for member in self._members(file, start):
                entry = member if isinstance(member, Failure) else self._find(member)
                if entry is not None:
                    yield entry

    def images(self, places: Iterable[Place]) -> Iterator[SourceImage | Failure]:
        with self._open_there() as file:
            for place in places:
                try:
                    image: SourceImage | Failure = self._describe(file, place)
                except _DAMAGE as exc:
                    id = self._options.prefix + _unpack(place)[0]
                    image = Failure(id, f"the member cannot be read: {exc}", place)
                yield image

    def _members(self, file: IO[bytes], start: int) -> Iterator[tarfile.TarInfo | Failure]:
        """The headers from one at byte `start` on, and a failure where no more can be read."""
        end = start
        try:
            file.seek(start)
            with _open_tar(file) as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # It would keep them all.
                    next_header: int = archive.offset
                    if next_header <= end:
                        raise tarfile.ReadError("a member of negative size")
                    file.seek(next_header - 1)
                    if not file.read(1):
                        raise tarfile.ReadError(f"the file ends within {member.name}")
                    end = next_header
                    yield member
            # tarfile takes anything that is no header for the end, and so misses that a file is cut short.
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("neither a member nor the end mark")
        except _DAMAGE as exc:
            yield Failure(
                printable(self._options.prefix + self._path.name),
                f"the archive is damaged or cut short after byte {end} ({exc}): copy or pack it again",
            )

    def _find(self, member: tarfile.TarInfo) -> Found | Failure | None:
        path = member_path(member.name)
        if member.isdir() or not looks_like_image(path) or not self._options.admits(path):
            return None
        place: Place = [path, member.offset_data, member.size]
        entry = found(path, place, self._options)
        if isinstance(entry, Failure):
            return entry
        if member.islnk() or member.issym():
            return Failure(entry.id, "a link, which has no bytes of its own: pack the file itself")
        if not member.isreg():
            return Failure(entry.id, "not a regular file")
        if member.issparse():
            return Failure(entry.id, "a sparse file, which is not read: pack it without --sparse")
        return entry

    def _describe(self, file: IO[bytes], place: Place) -> SourceImage:
        """The image at a place. Raises one of _DAMAGE."""
        path, offset, size = _unpack(place)
        # Long names and the like come first, so that the header proper is always the block before the data.
        file.seek(offset - tarfile.BLOCKSIZE)
        header = file.read(tarfile.BLOCKSIZE)
        modified = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").mtime
        version: Metadata = {"file_bytes": size, "file_mtime_s": float(modified)}
        kept = None
        if size <= MAX_IMAGE_BYTES:
            data = _read(file, size)
            version = {**version, **content_version(data)}
            kept = data if self._is_compressed else None

        def read() -> bytes:
            return self._read_at(offset, size) if kept is None else kept

        id, label = self._options.prefix + path, self._options.label_of(path)
        return SourceImage(id, place, member_uri(self._path, path), size, version, label, read)

    def _read_at(self, offset: int, size: int) -> bytes:
        with self._open() as file:
            file.seek(offset)
            return _read(file, size)

    def _open(self) -> IO[bytes]:
        return cast(IO[bytes], self._open_file(self._path, "rb"))

    def _open_there(self) -> IO[bytes]:
        try:
            return self._open()
        except OSError as exc:
            raise SourceUnavailable(f"{self._path} cannot be read any more: {exc.strerror}") from exc


class _Headers:
    """A file for `tarfile`, which reads of a header as much as that claims to need."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek = file.seek
        self.tell = file.tell
        self._read = file.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._read(size)


def _open_tar(file: IO[bytes]) -> tarfile.TarFile:
    fileobj = cast(IO[bytes], _Headers(file))
    return tarfile.open(fileobj=fileobj, mode="r:", encoding="utf-8", errors="surrogateescape")


def _read(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise OSError(f"the archive ends {size - len(data)} bytes before it does")
    return data


def _unpack(place: Place) -> tuple[str, int, int]:
    assert isinstance(place, list)
    path, offset, size = place
    return str(path), int(offset), int(size)
