"""The user's images: which are looked at, their bytes, and how to come back to some of them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random

from stochcon.sources.source import Failure, Place, Source, SourceImage, read_image, walk

SEED = 0

BATCH_IMAGES = 64
BATCH_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Location:
    """Where an image can be read again."""

    source: int
    """Its number among the sources."""
    place: Place


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that was read."""

    id: str
    label: str | None
    location: Location
    data: bytes


class ImageReader:
    """Reads images in batches; counts those that cannot be read, and leaves out copies, bytes for bytes."""

    def __init__(
        self, sources: Sequence[Source], limit: int | None, on_failure: Callable[[Failure], None]
    ) -> None:
        """`limit` takes so many, drawn at random with a fixed seed; all if None."""
        self._sources = sources
        self._limit = limit
        self._on_failure = on_failure
        self.num_copies = 0

    def batches(self) -> Iterator[list[Picture]]:
        """All images in the order of their sources, none of the batches empty.

        A batch ends at BATCH_IMAGES or BATCH_BYTES. Raises SourceUnavailable, BackendUnavailable.
        """
        batch: list[Picture] = []
        seen: set[bytes] = set()
        num_bytes = 0
        for number, entry in self._entries():
            data = read_image(entry) if isinstance(entry, SourceImage) else entry
            if isinstance(data, Failure) or isinstance(entry, Failure):
                assert isinstance(data, Failure)
                self._on_failure(data)
                continue
            digest = hashlib.blake2b(data, digest_size=16).digest()
            if digest in seen:
                self.num_copies += 1
                continue
            seen.add(digest)
            batch.append(Picture(entry.id, entry.label, Location(number, entry.place), data))
            num_bytes += len(data)
            if len(batch) >= BATCH_IMAGES or num_bytes >= BATCH_BYTES:
                yield batch
                batch, num_bytes = [], 0
        if batch:
            yield batch

    def read_again(self, locations: Iterable[Location]) -> Iterator[bytes | None]:
        """The bytes of images, which come in the order of `batches`; None for one that is gone."""
        for number, group in groupby(locations, lambda location: location.source):
            for entry in self._sources[number].images(location.place for location in group):
                data = read_image(entry) if isinstance(entry, SourceImage) else None
                yield data if isinstance(data, bytes) else None

    def _entries(self) -> Iterator[tuple[int, SourceImage | Failure]]:
        if self._limit is None:
            for number, source in enumerate(self._sources):
                for entry in walk(source):
                    yield number, entry
            return
        sample = self._sample(self._limit)
        for number, group in groupby(sample, lambda location: location.source):
            for entry in self._sources[number].images(location.place for location in group):
                yield number, entry

    def _sample(self, limit: int) -> list[Location]:
        """So many of all images, each with the same chance, in the order of a scan (Vitter's algorithm R)."""
        random = Random(SEED)
        kept: list[tuple[int, Location]] = []
        num_found = 0
        for number, source in enumerate(self._sources):
            for entry in source.scan():
                if isinstance(entry, Failure):
                    self._on_failure(entry)
                    continue
                found = num_found, Location(number, entry.place)
                num_found += 1
                if len(kept) < limit:
                    kept.append(found)
                elif (slot := random.randrange(num_found)) < limit:
                    kept[slot] = found
        return [location for _, location in sorted(kept, key=lambda item: item[0])]
