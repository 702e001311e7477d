"""What is in a WebDataset shard: a .tar whose neighbouring members of one base name are a sample.

The base name ends at the first dot in the last part of a member's path, and what follows is the field. A
sample's image is its field `jpg`, `png`, ... (`0001.seg.png` has the field `seg.png`, which is none); its
label is `cls`, a class number, or else the "label" in `json`, a number or a name.
"""

import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from contracts.image_files import IMAGE_SUFFIXES

_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)

_MAX_FIELD_BYTES = 2**20

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of compressed files."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image in a shard, and the small fields beside it."""

    where: str
    """Shard and base name, for messages."""
    image: tarfile.TarInfo
    fields: dict[str, bytes]

    def label(self) -> int | str | None:
        """The class's number or name. Raises ValueError for anything else."""
        if "cls" in self.fields:
            text = self.fields["cls"]
            try:
                return int(text)
            except ValueError as exc:
                raise ValueError(
                    f"{self.where}.cls holds {text[:40]!r}: give a class number, or leave .cls out and give "
                    '{"label": "its name"} in a .json'
                ) from exc
        label = self.metadata().get("label")
        if label is None or type(label) in (int, str):
            return label
        raise ValueError(
            f"{self.where}.json has a label of type {type(label).__name__}: give a number, a name, or none"
        )

    def metadata(self) -> dict[str, Any]:
        """What the object in `json` holds; empty without one. Raises ValueError if it is not JSON."""
        try:
            content = json.loads(self.fields.get("json", b"{}"))
        except ValueError as exc:
            raise ValueError(f"{self.where}.json is not JSON: {exc}") from exc
        return content if isinstance(content, dict) else {}


def read_samples(path: Path, fields: frozenset[str]) -> Iterator[Sample]:
    """The samples of a shard that have an image, in order, each with those of `fields` that it has.

    Reads headers from front to back and skips images. Raises ValueError if the shard is compressed, damaged
    or cut short, and if a sample has two images or a field twice.
    """
    try:
        with path.open("rb") as file:
            _refuse_compressed(path, file)
            with tarfile.open(fileobj=file, mode="r:") as shard:
                for base, members in itertools.groupby(_members(shard, file), itemgetter(0)):
                    sample = _sample(f"{path}, {base}", members, fields, file)
                    if sample is not None:
                        yield sample
    except tarfile.TarError as exc:
        raise ValueError(f"{path} is damaged, cut short or no tar file ({exc}): copy it again") from exc
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc}") from exc


def read_name(path: Path, header: int) -> str:
    """Name of the member whose first header is at that byte. Raises OSError and tarfile.TarError."""
    with path.open("rb") as file:
        file.seek(header)
        with tarfile.open(fileobj=file, mode="r:") as shard:
            member = shard.next()
    if member is None:
        raise tarfile.ReadError(f"no header at byte {header}")
    return member.name


def _members(shard: tarfile.TarFile, file: IO[bytes]) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Base name, field and header of every regular member that has both."""
    while (member := shard.next()) is not None:
        shard.members.clear()  # type: ignore[attr-defined]  # would keep them all, and sets have millions
        name = _NAME.fullmatch(member.name)
        if name is not None and member.isreg() and not member.issparse():
            yield name[1], name[2].lower(), member
    # tarfile takes anything that is no header for the end, and so misses that a file is cut short.
    file.seek(shard.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"neither a header nor the end mark at byte {shard.offset}")


def _sample(
    where: str,
    members: Iterator[tuple[str, str, tarfile.TarInfo]],
    fields: frozenset[str],
    file: IO[bytes],
) -> Sample | None:
    """The sample of neighbouring members; None if it has no image."""
    found: dict[str, tarfile.TarInfo] = {}
    for _, field, member in members:
        if field in found:
            raise ValueError(f"{where} has the field {field} twice: give each sample a name of its own")
        found[field] = member
    images = [field for field in found if f".{field}" in IMAGE_SUFFIXES]
    if len(images) > 1:
        raise ValueError(
            f"{where} has several images ({', '.join(images)}): keep one, and name others as in "
            f"BASE.mask.{images[1]}, or give each a base name of its own"
        )
    if not images:
        return None
    wanted = {field: member for field, member in found.items() if field in fields}
    return Sample(where, found[images[0]], {name: _content(where, m, file) for name, m in wanted.items()})


def _content(where: str, member: tarfile.TarInfo, file: IO[bytes]) -> bytes:
    if member.size > _MAX_FIELD_BYTES:
        raise ValueError(
            f"{where} has {member.size} bytes in {member.name}, and the limit beside an image is "
            f"{_MAX_FIELD_BYTES}: leave the member out"
        )
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _refuse_compressed(path: Path, file: IO[bytes]) -> None:
    start = file.read(8)
    for magic, kind in _COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path} is compressed ({kind}), and images are read at their place in the file: "
                "unpack it to a plain .tar"
            )
    file.seek(0)
