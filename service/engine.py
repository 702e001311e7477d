"""Encoder, store and active model as one object: everything the service does, without HTTP.

The HTTP routes use it, and so does the command line where nobody else owns the store. All calls
block and are safe to make from many threads. The model is loaded when first needed, so that work on
items alone costs no model; `start` loads it at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Self

from uuid_utils import uuid7

from contracts.codes import stack
from contracts.errors import InvalidItem, InvalidQuery, ModelMismatch, NotFound, StochConError
from index.embedded import EmbeddedStore
from index.items import check_collection_name
from index.protocol import (
    DEFAULT_COLLECTION,
    CollectionInfo,
    Item,
    ModelRef,
    SearchResult,
    Store,
)
from service.active_model import ActiveModel
from service.encoding.encoder import EncoderSettings, Observer
from service.encoding.encoding import Encoding
from service.knn import vote
from service.models import ModelFolder
from service.queries import (
    Classification,
    Image,
    NewItem,
    Query,
    SearchOptions,
    at_position,
    check_item,
    check_named,
    check_queries,
    file_of,
    show_model,
    to_code,
    without_made_id,
)
from service.settings import Settings
from service.successor import Recoded, is_successors
from service.writes import Writes


class Engine(ActiveModel):
    """A store, the models, and the encoder of the active one."""

    def __init__(
        self,
        store: Store,
        models: ModelFolder,
        *,
        model: str | None = None,
        encoder_settings: EncoderSettings | None = None,
        observer: Observer | None = None,
        keep_originals: bool = False,
    ) -> None:
        """Take over `store`, which `close` closes. `model` is a name, an id or a path."""
        super().__init__(store, models, model, encoder_settings, observer)
        self.writes = Writes(store, keep_originals)
        self.writes.originals.recover()

    @classmethod
    def open(
        cls, settings: Settings, *, owner_url: str | None = None, observer: Observer | None = None
    ) -> Self:
        """Open the store of `settings.data`, whose owner others are told to find at `owner_url`.

        Raises StoreLocked if another process owns the store, StoreCorrupt, BackendUnavailable.
        """
        store = EmbeddedStore.open(settings.data, owner_url=owner_url, num_threads=settings.threads)
        try:
            return cls(
                store,
                ModelFolder(settings.models),
                model=settings.model,
                encoder_settings=settings.encoder_settings(),
                observer=observer,
                keep_originals=settings.keep_originals,
            )
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Finish what is being encoded, then give the store back."""
        self.close_models()
        self.store.close()

    # Encoding

    def submit(self, images: Sequence[bytes]) -> list[Future[Encoding]]:
        """Queue image files and return a future for each. Raises Overloaded; see `Encoder.submit_all`."""
        return self.encoder.submit_all(images)

    def encode(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        """Encodings in order, with an error in the place of each bad image."""
        return list(self.encode_many(images))

    def encode_many(self, images: Iterable[bytes]) -> Iterator[Encoding | StochConError]:
        """The same for a stream of any length, in bounded memory; see `Encoder.encode_many`."""
        return self.encoder.encode_many(images)

    # Search

    def search(self, query: Query, options: SearchOptions | None = None) -> SearchResult:
        """Nearest items of one query; see `search_many`."""
        return self.search_many([query], options)[0]

    def search_many(
        self, queries: Sequence[Query], options: SearchOptions | None = None
    ) -> list[SearchResult]:
        """Nearest items of each query, in order.

        Raises InvalidQuery, InvalidItem (a code of another length), InvalidImage, ModelMismatch and
        NotFound (the collection, or the item of a query by id). The default collection is empty
        while it does not exist.
        """
        return self._search(queries, options or SearchOptions(), labelled_only=False)

    def classify(self, query: Query, options: SearchOptions | None = None) -> Classification:
        """Labels of one query; see `classify_many`."""
        return self.classify_many([query], options)[0]

    def classify_many(
        self, queries: Sequence[Query], options: SearchOptions | None = None
    ) -> list[Classification]:
        """Labels of each query by the votes of its `k` nearest labelled items; see `knn.vote`.

        Raises as `search_many`, and InvalidQuery for `rescore`, which has no say in a vote.
        """
        options = options or SearchOptions()
        if options.rescore:
            raise InvalidQuery("rescore is not used for a classification: leave it out")
        results = self._search(queries, options, labelled_only=True)
        num_bits = self.model_of(options.collection).num_bits
        return [Classification(vote(result.hits, num_bits), result) for result in results]

    def model_of(self, collection: str) -> ModelRef:
        """The model that a collection is bound to; the active one for a default not made yet."""
        return self._find(collection) or self.active.ref()

    def model_for(self, collection: str) -> ModelRef:
        """The model that writes to a collection are bound to; the active one if it is not made yet."""
        return self._find(collection, is_written=True) or self.active.ref()

    def _search(
        self, queries: Sequence[Query], options: SearchOptions, labelled_only: bool
    ) -> list[SearchResult]:
        check_queries(queries, options)
        bound = self._find(options.collection)
        model = bound or self.active.ref()
        encodings = self._encode_for(
            [query.image for query in queries if query.image is not None], model, options.collection
        )
        if bound is None:
            self._codes(queries, encodings, model, options.collection, exists=False)
            return [SearchResult(hits=[], truncated=False, exact=True) for _ in queries]
        if options.rescore:
            return [
                self.store.rescore(
                    options.collection,
                    encoding.logits,
                    k=options.k,
                    radius=options.radius,
                    where=options.filter,
                )
                for encoding in encodings
            ]
        return self.store.search(
            options.collection,
            stack(self._codes(queries, encodings, model, options.collection), model.num_bits),
            k=options.k,
            radius=options.radius,
            where=options.filter,
            labelled_only=labelled_only,
            exact=options.exact,
        )

    def _codes(
        self,
        queries: Sequence[Query],
        encodings: Sequence[Encoding],
        model: ModelRef,
        collection: str,
        exists: bool = True,
    ) -> list[bytes]:
        ids = [query.id for query in queries if query.id is not None]
        items = iter(self.store.get(collection, ids) if ids and exists else [None] * len(ids))
        images = iter(encodings)
        codes = []
        for query in queries:
            if query.image is not None:
                codes.append(next(images).code)
            elif query.code is not None:
                check_named(query.model, model, self.active.ref(), collection)
                codes.append(to_code(query.code, model.num_bits))
            else:
                item = next(items)
                if item is None:
                    raise _no_item(query.id, collection)
                codes.append(item.code)
        return codes

    # Items

    def upsert(
        self, items: Sequence[NewItem], collection: str = DEFAULT_COLLECTION, model: str | None = None
    ) -> list[str]:
        """Keep items, all or nothing, in place of those with the same ids; returns the ids in order.

        `model` is the id of the model that made the codes, the active one if None. Durable when it
        returns. Raises InvalidItem, InvalidImage, ModelMismatch.
        """
        if not items:
            return []
        for position, item in enumerate(items):
            check_item(item, position)
        bound = self.model_for(collection)
        images = [item.image for item in items if item.image is not None]
        other = self.store.other_model(collection)
        # Codes of the model before would be lost there: whoever made them is told to encode again.
        if is_successors(other, self.successor) and not images and model == other.id:
            bound = other
        encodings = iter(self._encode_for(images, bound, collection))
        if len(images) < len(items):
            check_named(model, bound, self.active.ref(), collection)
        ready = []
        made_ids: dict[str, int] = {}
        for position, item in enumerate(items):
            try:
                code = to_code(item.code, bound.num_bits) if item.code is not None else next(encodings).code
            except InvalidItem as exc:
                raise InvalidItem(f"item {position}: {exc}") from exc
            item_id = item.id
            if item_id is None:
                item_id = str(uuid7())
                made_ids[item_id] = position
            ready.append(Item(item_id, code, item.label, item.metadata, item.uri))
        provider = self.encoder.provider if images else ""
        try:
            self.upsert_encoded(
                ready, collection, replace(bound, provider=provider), [file_of(item) for item in items]
            )
        except InvalidItem as exc:
            raise without_made_id(exc, made_ids) from exc
        return [item.id for item in ready]

    def upsert_encoded(
        self,
        items: Sequence[Item],
        collection: str,
        model: ModelRef,
        files: Sequence[bytes | None] | None = None,
    ) -> None:
        """Keep items whose codes `model` made, all or nothing, with their image files if they are to be kept.

        Raises InvalidItem, ModelMismatch.
        """
        self.writes.upsert(collection, items, files or [None] * len(items), model, self.successor)
        self.keep_active()

    def get(self, item_id: str, collection: str = DEFAULT_COLLECTION) -> Item:
        """One item. Raises NotFound."""
        item = self.store.get(collection, [item_id])[0] if self._find(collection) else None
        if item is None:
            raise _no_item(item_id, collection)
        return item

    def original(self, item_id: str, collection: str = DEFAULT_COLLECTION) -> bytes:
        """The image file of an item. Raises NotFound if there is no such item, or its file is not kept."""
        key = None
        # An item that is replaced meanwhile takes its file with it: then it is looked at again.
        while (item := self.get(item_id, collection)).original not in (None, key):
            if (file := self.writes.originals.read(collection, item)) is not None:
                return file
            key = item.original
        raise NotFound(
            f"no image file of item {item_id!r} is kept: it came as a code, or the service ran without "
            "--keep-originals"
        )

    def delete(self, item_id: str, collection: str = DEFAULT_COLLECTION) -> None:
        """Delete one item; durable when it returns. Raises NotFound."""
        if self._find(collection) is None:
            raise _no_item(item_id, collection)
        if not self.writes.delete(collection, item_id):
            raise _no_item(item_id, collection)

    def list_items(
        self, collection: str = DEFAULT_COLLECTION, after: str | None = None, limit: int = 100
    ) -> list[Item]:
        """Items in the order of their ids' UTF-8 bytes, from the first id above `after`."""
        return self.store.list_items(collection, after, limit) if self._find(collection) else []

    # Collections

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        return self.store.collections()

    def collection(self, name: str = DEFAULT_COLLECTION) -> CollectionInfo:
        """One collection. Raises NotFound, but for the default, which is empty while it does not exist."""
        if self._find(name) is None:
            return CollectionInfo(name, self.active.ref(), 0, 0, 0, 0)
        return self.store.collection(name)

    def create_collection(self, name: str) -> CollectionInfo:
        """Make an empty collection for the active model, or return the one there is.

        Raises ModelMismatch if it is bound to another model.
        """
        made = self.store.create_collection(name, self.active.ref())
        self.keep_active()
        return made

    def missing(self, name: str, after: str | None) -> tuple[list[Item], str | None]:
        """Items that a collection's other generation has not, a part of them, and where to go on.

        Raises NotFound if it has no other generation.
        """
        self._find(name)
        return self.writes.others.missing(name, after)

    def fill(self, name: str, model: str, recoded: Sequence[Recoded]) -> int:
        """Put codes into a collection's other generation; returns how many items had not changed since.

        Raises NotFound, InvalidItem, and ModelMismatch if that generation is not of the model of that id.
        """
        self._find(name)
        other = self.store.other_model(name)
        if other is None or other.id != model:
            raise ModelMismatch(f"no codes of the model {model[:12]} are wanted for collection {name!r} now")
        return self.writes.others.fill(name, other, recoded)

    def delete_collection(self, name: str) -> None:
        """Delete a collection and its items. Raises NotFound, InvalidQuery for a name that none can have."""
        check_collection_name(name)
        self.writes.delete_collection(name)

    def _find(self, name: str, is_written: bool = False) -> ModelRef | None:
        """The model that the collection is bound to.

        None, while it does not exist, for the default and for one that is to be written to. Raises
        NotFound for any other, InvalidQuery for a name that none can have.
        """
        check_collection_name(name)
        try:
            return self.store.model(name)
        except NotFound:
            if is_written or name == DEFAULT_COLLECTION:
                return None
            raise

    def _encode_for(self, images: Sequence[Image], bound: ModelRef, collection: str) -> list[Encoding]:
        """Encodings of images for a collection bound to `bound`. Raises the first bad image's error."""
        if not images:
            return []
        if bound.id != self.active.id:
            raise ModelMismatch(
                f"the collection {collection!r} keeps codes of the model {show_model(bound)} and images are "
                f"encoded by {show_model(self.active.ref())}: serve with --model {bound.name}, or use "
                "another collection"
            )
        encoded = iter(self.encode_many(image for image in images if isinstance(image, bytes)))
        results: list[Encoding] = []
        for position, image in enumerate(images):
            encoding = next(encoded) if isinstance(image, bytes) else image
            if isinstance(encoding, StochConError):
                raise at_position(encoding, position) if len(images) > 1 else encoding
            results.append(encoding)
        return results


def _no_item(item_id: str | None, collection: str) -> NotFound:
    return NotFound(
        f"there is no item {item_id!r} in the collection {collection!r}: check its spelling, or list the "
        "items there are"
    )
