"""Writes to items, in each place that they have to reach.

Those are the collection, its other generation if there is one, and the image files that are kept.
"""

from collections.abc import Mapping, Sequence

from contracts.codes import num_bytes
from index.items import to_row
from index.protocol import Item, ModelRef, Store, other_generation
from service.originals import KeptOriginals
from service.successor import OtherGenerations, Successor, is_successors


class Writes:
    """Safe to use from many threads."""

    def __init__(self, store: Store, keep_originals: bool) -> None:
        self._store = store
        self.others = OtherGenerations(store)
        self.originals = KeptOriginals(store, keep_originals)

    def upsert(
        self,
        collection: str,
        items: Sequence[Item],
        files: Sequence[bytes | None],
        model: ModelRef,
        successor: Successor | None,
    ) -> None:
        """Insert or replace items, all or nothing; the last one of an id wins.

        `files` are their image files, where they came as such. Items with codes of the successor's `model` go
        to its generation only. Raises InvalidItem, ModelMismatch.
        """
        other = self._store.other_model(collection)
        with_file: Mapping[str, bytes] = {}
        if other is not None or any(files) or self._store.originals(collection) is not None:
            # What one place would refuse may not have reached another before.
            for item in items:
                to_row(item, num_bytes(model.num_bits))
            latest = {item.id: (item, file) for item, file in zip(items, files, strict=True)}
            items = [item for item, _ in latest.values()]
            with_file = {item.id: file for item, file in latest.values() if file is not None}
        is_for_other = is_successors(other, successor) and model.id == other.id
        generation = other_generation(collection) if is_for_other else collection
        if other is not None:
            self._store.upsert(generation, [], model)  # Refused here if it is of another model.
        codes = {} if is_for_other else self.others.encode(other, successor, with_file)
        with (
            self.originals.writing(collection, generation, items, with_file) as complete,
            self.others.paired(collection) as other,
        ):
            if other is not None and not is_for_other:
                self.others.write(collection, other, successor, complete, codes)
            self._store.upsert(generation, complete, model)

    def delete(self, collection: str, item_id: str) -> bool:
        """Delete an item everywhere; whether it was anywhere. Raises NotFound for the collection."""
        with self.originals.deleting(collection, [item_id]), self.others.paired(collection) as other:
            num_others = self.others.delete(collection, [item_id]) if other is not None else 0
            return bool(self._store.delete(collection, [item_id]) or num_others)

    def delete_collection(self, name: str) -> None:
        """Delete a collection and all that belongs to it. Raises NotFound."""
        with self.originals.locked(name):
            self._store.delete_collection(name)

    def drop_other(self, name: str) -> None:
        """Delete a collection's other generation, if there is one, and what was kept for it alone."""
        with self.originals.dropping(name):
            self.others.drop(name)
