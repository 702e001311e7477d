"""The model that is being activated, and the generation of each collection that is made with it.

While there is a successor, a collection may have another generation that is bound to it (see `Store.stage`).
A write reaches both: images are encoded by both models. What only one of the two can have, such as a code
made by the current model, is deleted from the other generation, so that nothing there is older than what it
stands for; whoever fills that generation finds it missing and makes it again from its source. The same holds
of a generation that was current before and is kept for the way back.

The other generation is always written first. So what a kill leaves behind is at worst there too soon, in a
write that nobody was told of, and never a stale code.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import structlog

from contracts.codes import num_bytes
from contracts.errors import BackendUnavailable, InvalidItem, NotFound
from index.protocol import Item, ModelRef, Store, other_generation
from service.encoding.encoder import Encoder
from service.encoding.encoding import Encoding
from service.locks import NamedLocks
from service.models import ModelFile

_PAGE = 1000
_PAGES_AT_ONCE = 8
_MAX_LATE = 1_000_000

_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class Successor:
    """A model, loaded and warmed, that is not active yet."""

    model: ModelFile
    encoder: Encoder


@dataclass(frozen=True, slots=True)
class Recoded:
    """The code of one item by the successor."""

    id: str
    code: bytes
    of: bytes
    """The item's current code when its source was read: another one means that it has changed since."""


@dataclass(slots=True)
class Late:
    """What writes left behind since the successor's generations began to be looked through."""

    without_source: dict[str, set[str]] = field(default_factory=dict)
    """Ids, by collection, of items that cannot be encoded again."""
    look_again: set[str] = field(default_factory=set)
    """Collections in which there are others as well, or too many."""

    def add(self, collection: str, item: Item) -> None:
        """Count an item that was not missing before."""
        if collection in self.look_again:
            return
        ids = self.without_source.setdefault(collection, set())
        ids.add(item.id)
        if has_source(item) or len(ids) > _MAX_LATE:
            self.look_again.add(collection)


class OtherGenerations:
    """Keeps the other generations of a store in step with the current ones. Safe to use from many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._locks = NamedLocks()
        self._late = Late()

    def note_late(self) -> Late:
        """Begin to note what writes leave behind, and return where."""
        with self._lock:
            self._late = Late()
            return self._late

    @contextmanager
    def paired(self, collection: str) -> Iterator[ModelRef | None]:
        """The model of the other generation, if there is one; no other write to the pair until the end."""
        if self._store.other_model(collection) is None:
            yield None
            return
        with self._locks.of(collection):
            yield self._store.other_model(collection)

    def behind(self, model_id: str) -> list[str]:
        """Collections that are bound to another model."""
        return [info.name for info in self._store.collections() if info.model.id != model_id]

    def of_model(self, model_id: str) -> list[str]:
        """Collections whose other generation is of that model."""
        names = [info.name for info in self._store.collections()]
        others = {name: self._store.other_model(name) for name in names}
        return [name for name, other in others.items() if other is not None and other.id == model_id]

    def stage(self, model: ModelRef) -> list[str]:
        """See to it that each collection which is behind has another generation of that model."""
        names = self.behind(model.id)
        for name in names:
            self._store.stage(name, model)
        return names

    def drop(self, collection: str) -> None:
        """Delete the other generation, if there is one; writes to the pair wait, and nothing else does."""
        with self._locks.of(collection):
            self._store.drop_other(collection)

    def encode(
        self, other: ModelRef | None, successor: Successor | None, files: Mapping[str, bytes]
    ) -> dict[str, bytes | None]:
        """Codes of image files, by id, for the other generation, or None in their places. Takes a while."""
        codes: dict[str, bytes | None] = dict.fromkeys(files)
        if not files or successor is None or not is_successors(other, successor):
            return codes
        try:
            encodings = list(successor.encoder.encode_many(files.values()))
        except BackendUnavailable as exc:
            # No reason to refuse the write: the activation will fail of it, or find what is missing.
            _log.warning("the model that is being activated does not encode", reason=str(exc))
            return codes
        pairs = zip(files, encodings, strict=True)
        return {id: encoding.code if isinstance(encoding, Encoding) else None for id, encoding in pairs}

    def write(
        self,
        collection: str,
        other: ModelRef,
        successor: Successor | None,
        items: Sequence[Item],
        codes: Mapping[str, bytes | None],
    ) -> None:
        """Bring what is about to be written to the current generation into the other one, within `paired`.

        `items` have their codes by the current model; `codes` are what `encode` gave.
        """
        ready = [replace(item, code=code) for item in items if (code := codes.get(item.id)) is not None]
        rest = [item for item in items if codes.get(item.id) is None]
        ids, left = [item.id for item in rest], []
        name = other_generation(collection)
        for item, mine, their in zip(
            rest, self._store.get(collection, ids), self._store.get(name, ids), strict=True
        ):
            if their is not None and item.id not in codes and _is_relabelled(item, mine):
                ready.append(replace(item, code=their.code))
                continue
            left.append(item.id)
            # Those that were missing before are counted already.
            if is_successors(other, successor) and (mine is None or their is not None or has_source(item)):
                with self._lock:
                    self._late.add(collection, item)
        if ready:
            self._store.upsert(name, ready, other)
        if left:
            self.delete(collection, left)

    def delete(self, collection: str, ids: Sequence[str]) -> int:
        """Delete items of the other generation, within `paired`, and return how many there were."""
        name = other_generation(collection)
        # Most writes are of new items, and looking costs no commit.
        there = [item.id for item in self._store.get(name, ids) if item is not None]
        return self._store.delete(name, there) if there else 0

    def fill(self, collection: str, other: ModelRef, recoded: Sequence[Recoded]) -> int:
        """Write codes for items that have not changed since they were read; returns how many those were.

        Label, metadata and URI are those of the current generation now. Raises InvalidItem for a code of
        another length.
        """
        with self.paired(collection) as bound:
            if bound is None or bound.id != other.id:
                return 0
            kept = self._store.get(collection, [item.id for item in recoded])
            ready = []
            for item, now in zip(recoded, kept, strict=True):
                if len(item.code) != num_bytes(other.num_bits):
                    raise InvalidItem(f"item {item.id!r}: the code has {len(item.code)} bytes")
                if now is not None and now.code == item.of:
                    ready.append(replace(now, code=item.code))
            self._store.upsert(other_generation(collection), ready, other)
            return len(ready)

    def missing(self, collection: str, after: str | None) -> tuple[list[Item], str | None]:
        """Items that the other generation has not, by id, among some thousands from the first above `after`.

        Also the id to go on after, which is None at the end.
        """
        found: list[Item] = []
        for _ in range(_PAGES_AT_ONCE):
            page = self._store.list_items(collection, after, _PAGE)
            if not page:
                return found, None
            after = page[-1].id
            theirs = self._store.get(other_generation(collection), [item.id for item in page])
            found += [item for item, their in zip(page, theirs, strict=True) if their is None]
        return found, after

    def count_late(self, late: Late) -> Counter[str]:
        """How many late items are missing even now, by collection; asks about each of them once."""
        counts: Counter[str] = Counter()
        for collection in list(late.without_source):
            with suppress(NotFound):  # It was deleted.
                while late.without_source.get(collection):
                    counts[collection] += self._count_some(collection, late)
        return +counts

    def _count_some(self, collection: str, late: Late) -> int:
        # A write holds this lock from when it notes an item until the item is there.
        with self._locks.of(collection):
            with self._lock:
                ids = late.without_source[collection]
                some = [ids.pop() for _ in range(min(len(ids), _PAGE * _PAGES_AT_ONCE))]
            mine = self._store.get(collection, some)
            theirs = self._store.get(other_generation(collection), some)
        missing = [item for item, their in zip(mine, theirs, strict=True) if item and not their]
        # A write that failed has taken its items out of the generation, and they are as they were.
        if any(map(has_source, missing)):
            late.look_again.add(collection)
        return len(missing)

    def all_missing(self, collection: str) -> Iterator[Item]:
        """All items that the other generation has not, by id, some thousands looked at in each step."""
        after: str | None = None
        while True:
            page, after = self.missing(collection, after)
            yield from page
            if after is None:
                return


def is_successors(other: ModelRef | None, successor: Successor | None) -> TypeGuard[ModelRef]:
    """Whether another generation is there and is the one that is being filled, not the one before."""
    return successor is not None and other is not None and successor.model.id == other.id


def has_source(item: Item) -> bool:
    """Whether an item may be encoded again."""
    return item.uri is not None or item.original is not None


def _is_relabelled(item: Item, before: Item | None) -> bool:
    return before is not None and (before.code, before.uri) == (item.code, item.uri)
