"""Keeping the image files of uploads, in step with the items that they are of.

An upload has no source to be encoded again from, so another model would have to go without it. With
`--keep-originals` its file is kept until its item is replaced or deleted. `index.originals` says how this
outlives a crash.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import structlog

from contracts.errors import NotFound, StochConError
from index.items import is_id
from index.originals import Originals
from index.protocol import Item, Store, other_generation

_PAGE = 1000

_log = structlog.get_logger("service")


class KeptOriginals:
    """The originals of a store's collections. Safe to use from many threads."""

    def __init__(self, store: Store, is_on: bool) -> None:
        """`is_on`: whether files of new items are kept; those that are kept already stay in step anyway."""
        self._store = store
        self._is_on = is_on
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def settle(self) -> None:
        """Find out about what was under way when the store was last closed, or not closed."""
        for info in self._store.collections():
            with self.locked(info.name):
                originals = self._store.originals(info.name)
                if originals is not None and (doubts := originals.doubts()):
                    self._settle(info.name, originals, doubts)

    def sweep(self, collection: str) -> None:
        """Delete what no item names any more, once a generation was dropped that named it."""
        after = 0
        while True:
            with self.locked(collection):
                originals = self._store.originals(collection)
                page = {} if originals is None else originals.page(after, _PAGE)
                if originals is None or not page:
                    return
                self._settle(collection, originals, page)
            after = max(page)

    @contextmanager
    def locked(self, collection: str) -> Iterator[None]:
        """Nobody else changes originals of a collection, or what items name, until the block ends."""
        with self._lock:
            lock = self._locks.setdefault(collection, threading.Lock())
        with lock:
            yield

    @contextmanager
    def writing(
        self, collection: str, items: Sequence[Item], files: Mapping[str, bytes]
    ) -> Iterator[Sequence[Item]]:
        """Keep image files, by id, of items that are written within; gives the items that name them.

        An item without a file whose code stays the same keeps the file it had. When the block ends, however
        it does, what no item names any more is deleted. Raises BackendUnavailable if a file cannot be kept.
        """
        new = {id: file for id, file in files.items() if is_id(id)} if self._is_on else {}
        with self._in_step(collection, [item.id for item in items], new) as (keys, before):
            if not keys and not before:
                yield items
                return
            yield [replace(item, original=_original(item, keys, before.get(item.id))) for item in items]

    @contextmanager
    def deleting(self, collection: str, ids: Sequence[str]) -> Iterator[None]:
        """Delete what was kept of items that are deleted within."""
        with self._in_step(collection, ids, {}):
            yield

    @contextmanager
    def _in_step(
        self, collection: str, ids: Sequence[str], new: Mapping[str, bytes]
    ) -> Iterator[tuple[Mapping[str, int], Mapping[str, Item]]]:
        """Keys of the new files by id, and the items that have had a file until now."""
        if not self._is_on and self._store.originals(collection) is None:
            yield {}, {}
            return
        with self.locked(collection):
            originals = self._store.originals(collection, make=bool(new))
            if originals is None:
                yield {}, {}
                return
            generations = self._generations(collection, ids)
            had = {
                item.original: item.id
                for items in generations.values()
                for item in items.values()
                if item.original is not None
            }
            if not new and not had:
                yield {}, {}
                return
            keys = originals.add(new, had)
            try:
                yield keys, generations.get(collection, {})
            finally:
                self._settle(collection, originals, had | {key: id for id, key in keys.items()})

    def read(self, collection: str, item: Item) -> bytes | None:
        """The image file of an item, if it is kept."""
        originals = self._store.originals(collection)
        return None if originals is None or item.original is None else originals.read(item.original)

    def _settle(self, collection: str, originals: Originals, doubts: Mapping[int, str]) -> None:
        """Ask the catalogues which keys items name, and delete the others."""
        try:
            generations = self._generations(collection, list(set(doubts.values()))).values()
            named: list[int] = []
            unnamed: list[int] = []
            for key, id in doubts.items():
                is_named = any(id in items and items[id].original == key for items in generations)
                (named if is_named else unnamed).append(key)
            originals.settle(named, unnamed)
        except StochConError as exc:
            _log.warning("originals stay in doubt until the next start", reason=str(exc))

    def _generations(self, collection: str, ids: Sequence[str]) -> dict[str, dict[str, Item]]:
        """Those of the items that are there, by id, in each generation that is there."""
        found = {}
        for name in (collection, other_generation(collection)):
            with suppress(NotFound):
                items = self._store.get(name, ids)
                found[name] = {item.id: item for item in items if item is not None}
        return found


def _original(item: Item, keys: Mapping[str, int], before: Item | None) -> int | None:
    if item.id in keys:
        return keys[item.id]
    return before.original if before is not None and before.code == item.code else None
