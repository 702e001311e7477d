"""Images in a .zip."""

import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from index.protocol import Metadata
from stochcon.sources.members import member_path, member_prefix, member_uri
from stochcon.sources.source import (
    Failure,
    Found,
    Place,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    found,
    looks_like_image,
)

CHUNK_BYTES = 2**20
"""Read at once, so that no more memory is taken than a member says it needs, whatever it expands to."""

_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
"""What reading a damaged archive raises."""


class ZipSource:
    """Images in a .zip, in the order of its directory. A place is a member's number there.

    An id is the member's name. Hidden members and those that do not look like images by name are left
    out. Encrypted members, links, and those that are compressed by anything but deflate are failures.

    An archive may have members of one name, of which `unzip` keeps the last. Here each is read, under one
    id, and the one that is stored last stays: the last in the archive in a run on its own, but whichever
    came last in a job that many workers share.

    The directory is held in memory, which takes some 700 bytes a member.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Raises SourceUnavailable if it is no zip file."""
        self._path = path.resolve()
        self._options = options
        try:
            facts = self._path.stat()
            self._archive = zipfile.ZipFile(self._path)
        except _DAMAGE as exc:
            raise SourceUnavailable(
                f"{path} cannot be read as a zip file, or is cut short: {exc}; copy or pack it again"
            ) from exc
        self._members = self._archive.infolist()
        self._turn = threading.Lock()
        self.version = f"{facts.st_size}-{facts.st_mtime_ns}"

    @property
    def uri_prefix(self) -> str:
        return member_prefix(self._path)

    def count(self) -> int:
        return sum(1 for _ in self.scan())

    def scan(self, after: Place | None = None) -> Iterator[Found | Failure]:
        first = 0 if after is None else int(str(after)) + 1
        for number in range(first, len(self._members)):
            entry = self._find(number)
            if entry is not None:
                yield entry

    def images(self, places: Iterable[Place]) -> Iterator[SourceImage | Failure]:
        for place in places:
            yield self._describe(int(str(place)))

    def _find(self, number: int) -> Found | Failure | None:
        member = self._members[number]
        path = member_path(member.filename)
        if not looks_like_image(path) or not self._options.admits(path):
            return None
        entry = found(path, number, self._options)
        if isinstance(entry, Failure):
            return entry
        if member.flag_bits & _ENCRYPTED:
            return Failure(entry.id, "the member is encrypted: pack it without a password")
        if member.compress_type not in _METHODS:
            method = zipfile.compressor_names.get(member.compress_type, member.compress_type)  # type: ignore[attr-defined]
            return Failure(entry.id, f"the member is compressed by {method}: pack it with deflate")
        # Only archives made on Unix have a mode, and the type of a file in it.
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            return Failure(
                entry.id, "a link or a device, which has no bytes of its own: pack the file itself"
            )
        return entry

    def _describe(self, number: int) -> SourceImage:
        member = self._members[number]
        path = member_path(member.filename)
        version: Metadata = {"file_bytes": member.file_size, "file_crc32": f"{member.CRC:08x}"}
        return SourceImage(
            self._options.prefix + path,
            number,
            member_uri(self._path, path),
            member.file_size,
            version,
            self._options.label_of(path),
            lambda: self._read(member),
        )

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        """Raises OSError."""
        # zipfile counts its open members without a lock of its own.
        with self._turn:
            try:
                with self._archive.open(member) as file:
                    chunks = []
                    while chunk := file.read(CHUNK_BYTES):
                        chunks.append(chunk)
            except _DAMAGE as exc:
                raise OSError(f"the member is damaged: {exc}") from exc
        data = b"".join(chunks)
        if len(data) < member.file_size:
            raise OSError(f"the member ends after {len(data)} of {member.file_size} bytes")
        return data
