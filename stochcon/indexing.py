"""Filling a collection from images: what is there is skipped, the rest is encoded and stored.

A few threads read and encode batches while this one walks the images and stores codes, in order. Each
batch is stored as soon as it is encoded, so what is counted as done is done, whatever happens next.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from contracts.errors import InvalidInput, InvalidItem, StochConError, TooLarge
from index.protocol import Item, Metadata, ModelRef
from stochcon.backend import Backend
from stochcon.results import Encoding
from stochcon.sources.source import Failure, Source, SourceImage, read_image

LOOKUP_IMAGES = 256
"""Images looked up in the collection at once."""
BATCH_IMAGES = 64
BATCH_BYTES = 32 * 2**20
BATCHES_UNDER_WAY = 3
"""Batches in memory: enough to read one and store one while the model works on a third."""


class IndexingBackend(Protocol):
    """The part of a `stochcon.backend.Backend` that indexing uses."""

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]: ...

    def get_many(self, collection: str, ids: Sequence[str]) -> list[Item | None]: ...

    def upsert(self, collection: str, items: Sequence[Item], model: ModelRef) -> None: ...


@dataclass(slots=True)
class Counts:
    """What became of the images so far."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Images dealt with, in whatever way."""
        return self.added + self.updated + self.unchanged + self.failed


@dataclass(frozen=True, slots=True)
class _Change:
    """An image that is new or has changed, and the item that it replaces."""

    image: SourceImage
    kept: Item | None


_Encoded = list[tuple[_Change, Encoding | Failure]]


@dataclass(slots=True)
class Indexing:
    """One run into one collection."""

    backend: IndexingBackend
    collection: str
    on_progress: Callable[[Counts], None]
    on_failure: Callable[[Failure], None]
    should_stop: Callable[[], bool] = lambda: False
    """Asked before each batch; once it says so, what is under way is finished and nothing more is begun."""
    should_abandon: Callable[[], bool] = lambda: False
    """Asked before each batch that is under way is stored; once it says so, nothing more is."""
    metadata: Metadata = field(default_factory=dict)
    """Put on every item."""
    counts: Counts = field(default_factory=Counts)

    def run(self, images: Iterable[SourceImage | Failure]) -> None:
        """Index images. Raises what the backend raises for more than a single image."""
        under_way: deque[Future[_Encoded]] = deque()
        pool = ThreadPoolExecutor(BATCHES_UNDER_WAY, thread_name_prefix="encode")
        try:
            for batch in _batches(self._changes(iter(images))):
                under_way.append(pool.submit(self._encode, batch))
                if len(under_way) == BATCHES_UNDER_WAY:
                    self._store(under_way.popleft().result())
                if self.should_stop():
                    break
            while under_way and not self.should_abandon():
                self._store(under_way.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _changes(self, entries: Iterator[SourceImage | Failure]) -> Iterator[_Change]:
        """Images that are not in the collection as they are now."""
        while not self.should_stop() and (group := list(islice(entries, LOOKUP_IMAGES))):
            images = [
                replace(entry, metadata={**entry.metadata, **self.metadata})
                for entry in group
                if isinstance(entry, SourceImage)
            ]
            for entry in group:
                if isinstance(entry, Failure):
                    self._fail(entry)
            kept_items = self.backend.get_many(self.collection, [image.id for image in images])
            for image, kept in zip(images, kept_items, strict=True):
                if kept and _is_unchanged(image, kept):
                    self.counts.unchanged += 1
                elif kept and _belongs_elsewhere(image, kept):
                    reason = f"the id is taken by {kept.uri}: index it with --prefix"
                    self._fail(Failure(image.id, reason, image.place))
                else:
                    yield _Change(image, kept)
            self.on_progress(self.counts)

    def _encode(self, batch: Sequence[_Change]) -> _Encoded:
        read: list[tuple[_Change, bytes]] = []
        done: _Encoded = []
        for change in batch:
            data = read_image(change.image)
            if isinstance(data, Failure):
                done.append((change, data))
            else:
                read.append((change, data))
        results = self.backend.encode_many([data for _, data in read]) if read else []
        for (change, _), result in zip(read, results, strict=True):
            if isinstance(result, Encoding):
                done.append((change, result))
            elif isinstance(result, (InvalidInput, TooLarge)):
                done.append((change, Failure(change.image.id, str(result), change.image.place)))
            else:
                raise result
        return done

    def _store(self, encoded: _Encoded) -> None:
        stored: list[tuple[_Change, Encoding]] = []
        for change, result in encoded:
            if isinstance(result, Failure):
                self._fail(result)
            else:
                stored.append((change, result))
        if stored:
            self._upsert(stored)
        self.on_progress(self.counts)

    def _upsert(self, stored: Sequence[tuple[_Change, Encoding]]) -> None:
        items = [_item(change, encoding) for change, encoding in stored]
        try:
            self.backend.upsert(self.collection, items, stored[0][1].model)
        except InvalidItem as exc:
            if len(stored) == 1:
                self._fail(Failure(items[0].id, str(exc), stored[0][0].image.place))
                return
            for one in stored:  # One bad id or label refuses the whole write: find out which.
                self._upsert([one])
            return
        for change, _ in stored:
            if change.kept is None:
                self.counts.added += 1
            else:
                self.counts.updated += 1

    def _fail(self, failure: Failure) -> None:
        self.counts.failed += 1
        self.on_failure(failure)


def prune(backend: Backend, collection: str, source: Source) -> int:
    """Delete the items of `source` whose file is gone, and return how many they were."""
    deleted = 0
    after: str | None = None
    while page := backend.list_items(collection, after, limit=1000):
        after = page[-1].id
        gone = [
            item.id
            for item in page
            if item.uri and item.uri.startswith(source.uri_prefix) and not _file_exists(item.uri)
        ]
        for id in gone:
            backend.delete(collection, id)
        deleted += len(gone)
    return deleted


def _batches(changes: Iterator[_Change]) -> Iterator[list[_Change]]:
    batch: list[_Change] = []
    size = 0
    for change in changes:
        if batch and (len(batch) == BATCH_IMAGES or size + change.image.num_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += change.image.num_bytes
    if batch:
        yield batch


def _item(change: _Change, encoding: Encoding) -> Item:
    """The item to store; a label and metadata given by other means stay."""
    image, kept = change.image, change.kept
    label = kept.label if kept and image.label is None else image.label
    metadata = {**(kept.metadata if kept else {}), **image.metadata, **image.version}
    return Item(image.id, encoding.code, label, metadata, image.uri)


def _is_unchanged(image: SourceImage, kept: Item) -> bool:
    wanted = {**image.metadata, **image.version}
    is_same = all(key in kept.metadata and kept.metadata[key] == value for key, value in wanted.items())
    return is_same and kept.uri == image.uri and image.label in (None, kept.label)


def _belongs_elsewhere(image: SourceImage, kept: Item) -> bool:
    """Whether the id is that of another file, which is still there; one that has gone was moved here."""
    if kept.uri is None or urlsplit(kept.uri).path == urlsplit(image.uri).path:
        return False
    return _file_exists(kept.uri)


def _file_exists(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme == "file" and Path(url2pathname(parts.path)).exists()
