"""EmbeddedStore: the store of one machine, in one folder, owned by one process.

    data_dir/
        store.lock
        generations.json            which folder is current, see `index.generations`
        collections/
            <name>/                 and <name>@2 and so on, where it has had other generations
                catalog.sqlite      the truth
                segments/           a cache of codes, made again whenever it does not match
        originals/                  image files, where they are kept, see `index.originals`

A collection exists if and only if its folder does: it is made under another name and renamed, and
deleted by renaming it away first.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from contracts.codes import Codes
from contracts.errors import BackendUnavailable, NotFound
from index.answers import nearest, rescored
from index.collection import Collection
from index.filters import compile_filter
from index.folders import COLLECTIONS_NAME, Folders
from index.items import check_collection_name
from index.lock import StoreLock
from index.originals import Originals, OriginalsFolder
from index.protocol import (
    CollectionInfo,
    Item,
    ModelRef,
    SearchResult,
    collection_name,
    is_other_generation,
    other_generation,
)
from index.search import Searcher
from index.segments import SEGMENT_SLOTS
from index.verification import verify, verify_originals


class EmbeddedStore:
    """`index.protocol.Store` on SQLite and FAISS. A context manager."""

    def __init__(self, data_dir: Path, lock: StoreLock, num_threads: int, segment_slots: int) -> None:
        self._lock = lock
        self._num_threads = num_threads
        self._segment_slots = segment_slots
        self._searcher = Searcher(num_threads)
        self._originals = OriginalsFolder(data_dir)
        # Guards the dictionary and the folders; never held during a search or a write of items.
        self._collections_lock = threading.Lock()
        self._collections: dict[str, Collection] = {}
        """Current generations by name, and other ones by `other_generation(name)`."""
        self._folders = Folders(data_dir)
        self._is_closed = False

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        owner_url: str | None = None,
        num_threads: int | None = None,
        segment_slots: int = SEGMENT_SLOTS,
    ) -> "EmbeddedStore":
        """Take the store in `data_dir`, making it if need be.

        `owner_url` is where this process serves, told to those who find the store locked;
        `num_threads` is for searching, by default the processors that this process may use;
        `segment_slots`, a multiple of 8, is how many slots a segment has in collections made from now on.
        Raises StoreLocked, StoreCorrupt, BackendUnavailable.
        """
        if segment_slots <= 0 or segment_slots % 8:
            raise ValueError(f"segment_slots is {segment_slots}: it must be a positive multiple of 8")
        with ExitStack() as undo:
            try:
                (data_dir / COLLECTIONS_NAME).mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise BackendUnavailable(
                    f"the store's folder {data_dir} cannot be made ({exc.strerror}): choose another --data"
                ) from exc
            lock = StoreLock(data_dir, owner_url)
            undo.callback(lock.release)
            store = cls(data_dir, lock, num_threads or len(os.sched_getaffinity(0)), segment_slots)
            undo.callback(store._close_collections)
            for name, folder in store._folders.find().items():
                store._collections[name] = Collection(folder, store._num_threads)
            store._originals.open([name for name in store._collections if not is_other_generation(name)])
            undo.pop_all()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        return [self._info(collection) for collection in self._each(others=False)]

    def collection(self, name: str) -> CollectionInfo:
        """One collection, its sizes measured now. Raises NotFound."""
        with self._using(name) as collection:
            return self._info(collection)

    def model(self, name: str) -> ModelRef:
        """The model that a collection is bound to. Raises NotFound."""
        with self._using(name) as collection:
            return collection.model

    def create_collection(self, name: str, model: ModelRef) -> CollectionInfo:
        """Make an empty collection, or return the one there is. Raises ModelMismatch, InvalidQuery."""
        with self._using(name, model) as collection:
            return self._info(collection)

    def delete_collection(self, name: str) -> None:
        """Delete a collection, its items and its files, once calls under way are done. Raises NotFound."""
        while True:
            self.drop_other(name)
            if self._delete(name):
                return

    def stage(self, name: str, model: ModelRef) -> CollectionInfo:
        """See to it that a collection has another generation, for the codes of `model`; see `Store.stage`."""
        self.model(name)
        other = other_generation(name)
        kept = self.other_model(name)
        if kept is not None and (kept.id, kept.num_bits) != (model.id, model.num_bits):
            self.drop_other(name)
        with self._collections_lock:
            self._check_open()
            if name not in self._collections:
                raise _not_found(name)
            if other not in self._collections:
                # The file is written first: it may name a folder that is not there, but no folder may be
                # there that it does not name.
                folder = self._folders.generations.new_folder(name)
                self._folders.write(self._folders.generations.with_other(name, folder))
                self._collections[other] = self._create(folder, model)
        return self.collection(other)

    def other_model(self, name: str) -> ModelRef | None:
        """The model of a collection's other generation, or None."""
        with self._collections_lock:
            self._check_open()
            collection = self._collections.get(other_generation(name))
            return None if collection is None else collection.model

    def drop_other(self, name: str) -> None:
        """Delete a collection's other generation, if there is one, once calls under way are done."""
        with suppress(NotFound):
            self._delete(other_generation(name))

    def switch(self, names: Sequence[str], active_model: str) -> None:
        """Exchange current and other generations, and the active model, in one moment; see `Store.switch`."""
        with self._collections_lock:
            self._check_open()
            for name in names:
                if other_generation(name) not in self._collections:
                    raise NotFound(f"collection {name!r} has no other generation")
            self._folders.write(self._folders.generations.switched(frozenset(names), active_model))
            for name in names:
                other, found = other_generation(name), self._collections
                found[name], found[other] = found[other], found[name]

    @property
    def active_model(self) -> str | None:
        """Id of the model that was given to the last `switch`."""
        return self._folders.generations.active_model

    def _delete(self, name: str) -> bool:
        """Delete one generation; False if it is a current one and has another by now."""
        collection = self._find(name, None)
        collection.gate.shut()  # Outside the lock: calls on other collections need not wait.
        with ExitStack() as after, self._collections_lock:
            if self._collections.get(name) is not collection:
                raise _not_found(name)  # Somebody else was faster.
            if other_generation(name) in self._collections:
                return False
            is_whole = not is_other_generation(name)
            if is_whole:
                self._originals.set_aside(name)
            collection.close()
            del self._collections[name]
            try:
                doomed = self._folders.take_away(collection.folder)
            except BackendUnavailable:
                self._originals.put_back(name)
                raise
            # Once nobody is held up by it, and also if the disk is full and nothing can be written.
            after.callback(self._folders.delete, doomed)
            if is_whole:
                after.callback(self._originals.delete_aside, name)
            self._folders.sync()
            kept, own = self._folders.generations, collection.name
            self._folders.write(kept.without(own) if is_whole else kept.with_other(own, None))
        return True

    def upsert(self, name: str, items: Sequence[Item], model: ModelRef) -> None:
        """Insert or replace items, all or nothing, making the collection if need be.

        Raises InvalidItem, ModelMismatch, InvalidQuery.
        """
        with self._using(name, model) as collection:
            collection.upsert(items)

    def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete those of `ids` that are there and return how many. Raises NotFound."""
        with self._using(name) as collection:
            return collection.delete(ids)

    def get(self, name: str, ids: Sequence[str]) -> list[Item | None]:
        """Items in the order of `ids`, None where there is none. Raises NotFound."""
        with self._using(name) as collection:
            return collection.get(ids)

    def list_items(self, name: str, after: str | None = None, limit: int = 100) -> list[Item]:
        """Items in the order of their ids' UTF-8 bytes, from the first id above `after`. Raises NotFound."""
        with self._using(name) as collection:
            return collection.list_items(after, limit)

    def search(
        self,
        name: str,
        queries: Codes,
        *,
        k: int = 10,
        radius: int | None = None,
        where: Mapping[str, Any] | None = None,
        labelled_only: bool = False,
        exact: bool = True,
    ) -> list[SearchResult]:
        """Nearest items of each packed query, uint8 [num_queries, num_bits / 8].

        Answers are exact whatever `exact` says. Raises InvalidQuery, NotFound.
        """
        condition = compile_filter(where) if where else None
        with self._using(name) as collection:
            return nearest(
                collection,
                self._searcher,
                queries,
                k=k,
                radius=radius,
                condition=condition,
                labelled_only=labelled_only,
            )

    def rescore(
        self,
        name: str,
        logits: Any,
        *,
        k: int = 10,
        radius: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> SearchResult:
        """Nearest items by expected distance under the query's posterior, from float logits [num_bits].

        Raises InvalidQuery, NotFound.
        """
        condition = compile_filter(where) if where else None
        with self._using(name) as collection:
            return rescored(collection, self._searcher, logits, k=k, radius=radius, condition=condition)

    def sample(self, name: str, count: int, seed: int) -> Codes:
        """Codes of items drawn at random, with replacement; none if it is empty. Raises NotFound."""
        with self._using(name) as collection:
            return collection.sample(count, np.random.default_rng(seed))

    def originals(self, name: str, make: bool = False) -> Originals | None:
        """Image files that are kept of a collection's items; see `Store.originals`."""
        check_collection_name(name)
        return self._originals.of(name, make)

    def verify(self) -> list[str]:
        """Check everything stored against its checksums and itself; a line for each fault, none if sound."""
        faults = [fault for collection in self._each() for fault in verify(collection)]
        with self._collections_lock:
            pairs = [
                (collection, self._collections.get(other_generation(name)))
                for name, collection in sorted(self._collections.items())
                if not is_other_generation(name)
            ]
        for collection, other in pairs:
            originals = self._originals.of(collection.name)
            if originals is not None:
                faults += verify_originals(originals, collection, other)
        return faults

    def close(self) -> None:
        """Give the store back, once calls under way are done. Other calls then raise BackendUnavailable."""
        with self._collections_lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._close_collections()
            self._lock.release()

    @contextmanager
    def _using(self, name: str, model: ModelRef | None = None) -> Iterator[Collection]:
        """The collection `name`, which stays open meanwhile; made if need be where a `model` is given."""
        collection = self._find(name, model)
        with collection.gate.entered() as is_open:
            if not is_open:
                with self._collections_lock:
                    self._check_open()
                if model is not None:
                    raise BackendUnavailable(f"collection {name!r} is being deleted: try again")
                raise _not_found(name)
            if model is not None:
                collection.check_model(model)
            yield collection

    def _each(self, others: bool = True) -> Iterator[Collection]:
        """The collections by name, each kept open while it is looked at; with or without `others`."""
        with self._collections_lock:
            self._check_open()
            names = sorted(name for name in self._collections if others or not is_other_generation(name))
        for name in names:
            with suppress(NotFound), self._using(name) as collection:  # It may be deleted meanwhile.
                yield collection

    def _find(self, name: str, model: ModelRef | None) -> Collection:
        with self._collections_lock:
            self._check_open()
            collection = self._collections.get(name)
            if collection is None:
                if model is None or is_other_generation(name):
                    raise _not_found(name)
                check_collection_name(name)
                # A file that could not be written when another of this name was deleted may still say where.
                folder = self._folders.generations.current_folder(name)
                collection = self._collections[name] = self._create(folder, model)
            return collection

    def _create(self, folder_name: str, model: ModelRef) -> Collection:
        return Collection(self._folders.create(folder_name, model, self._segment_slots), self._num_threads)

    def _close_collections(self) -> None:
        for collection in self._collections.values():
            collection.close()
        self._originals.close()
        self._searcher.close()

    def _info(self, collection: Collection) -> CollectionInfo:
        originals = self._originals.of(collection.name)
        if originals is None:
            return collection.info()
        kept = originals.info()
        return replace(collection.info(), num_originals=kept.num_files, original_bytes=kept.num_bytes)

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendUnavailable("the store is closed: open it again")


def _not_found(name: str) -> NotFound:
    name = collection_name(name)
    return NotFound(f"there is no collection {name!r}: write an item to it, or choose one that is listed")
