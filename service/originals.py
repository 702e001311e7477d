"""Keeping the image files of uploads, in step with the items that they are of.

An upload has no source to be encoded again from, so another model would have to go without it. With
`--keep-originals` its file is kept until its item is replaced or deleted. `index.originals` says how this
outlives a crash.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace

import structlog

from contracts.errors import NotFound, StochConError
from index.originals import Originals
from index.protocol import Item, Store, other_generation
from service.locks import NamedLocks

_PAGE = 1000

_log = structlog.get_logger("service")


class KeptOriginals:
    """The originals of a store's collections. Safe to use from many threads."""

    def __init__(self, store: Store, is_on: bool) -> None:
        """`is_on`: whether files of new items are kept; those that are kept already stay in step anyway."""
        self._store = store
        self._is_on = is_on
        self._locks = NamedLocks()

    def recover(self) -> None:
        """Find out about what was under way when the store was last closed, or not closed."""
        for info in self._store.collections():
            originals = self._store.originals(info.name)
            if originals is None:
                continue
            with self.locked(info.name):
                if doubts := originals.doubts():
                    self._resolve(info.name, originals, doubts)
            if originals.sweep_is_due:
                self._sweep(info.name)

    def locked(self, collection: str) -> AbstractContextManager[bool]:
        """Nobody else changes originals of a collection, or what items name, until the block ends."""
        return self._locks.of(collection)

    @contextmanager
    def writing(
        self, collection: str, generation: str, items: Sequence[Item], files: Mapping[str, bytes]
    ) -> Iterator[Sequence[Item]]:
        """Keep image files, by id, of items that are written within; gives the items that name them.

        `generation` is the one to write to; no id may be twice in `items`. An item without a file whose code
        stays the same keeps the file it had there. When the block ends, however it does, what no item names
        any more is deleted. Raises BackendUnavailable if a file cannot be kept.
        """
        new = files if self._is_on else {}
        with self._in_step(collection, [item.id for item in items], new) as (keys, generations):
            before = generations.get(generation, {})
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
    def dropping(self, collection: str) -> Iterator[None]:
        """Delete what was kept for a generation alone that is dropped within."""
        with self.locked(collection):
            originals = self._store.originals(collection)
            if originals is not None:
                originals.sweep_is_due = True
        yield
        self._sweep(collection)

    def read(self, collection: str, item: Item) -> bytes | None:
        """The image file of an item, if it is kept. Raises StoreCorrupt."""
        originals = self._store.originals(collection)
        return None if originals is None or item.original is None else originals.read(item.original, item.id)

    @contextmanager
    def _in_step(
        self, collection: str, ids: Sequence[str], new: Mapping[str, bytes]
    ) -> Iterator[tuple[Mapping[str, int], Mapping[str, Mapping[str, Item]]]]:
        """Keys of the new files by id, and the items of each generation by id, if any has had a file."""
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
                yield keys, generations
            finally:
                self._resolve(collection, originals, had | {key: id for id, key in keys.items()})

    def _resolve(self, collection: str, originals: Originals, doubts: Mapping[int, str]) -> bool:
        """Ask the catalogues which keys items name, and delete the others; whether that could be done."""
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
            return False
        return True

    def _sweep(self, collection: str) -> None:
        """Resolve all that is kept, as if it were in doubt."""
        after, is_done = 0, True
        while True:
            with self.locked(collection):
                originals = self._store.originals(collection)
                if originals is None:
                    return
                page = originals.page(after, _PAGE)
                if not page:
                    originals.sweep_is_due = not is_done
                    return
                is_done &= self._resolve(collection, originals, page)
            after = max(page)

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
