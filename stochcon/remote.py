"""The backend behind a URL."""

from collections.abc import Sequence

from contracts.errors import InvalidItem, NotFound, StochConError
from index.protocol import CollectionInfo, Item, ModelRef
from stochcon.backend import Query
from stochcon.client import Client
from stochcon.results import Classification, Encoding, ModelInfo, NewItem, SearchAnswer

LARGEST_PAGE = 1000
"""Items that the service lists in one answer."""


class RemoteBackend:
    """A running service, spoken to by its client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def active_model(self) -> ModelRef:
        for info in self._client.models():
            if info.active:
                return ModelRef(info.id, info.name, info.num_bits)
        raise NotFound(f"{self._client.url} has no active model: see its log")

    def model_of(self, collection: str) -> ModelRef:
        """The model that a collection is bound to, or will be by its first item."""
        try:
            return self.collection(collection).model
        except NotFound:
            return self.active_model()

    def models(self) -> list[ModelInfo]:
        return self._client.models()

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        return self._client.encode_many(images)

    def search(self, query: Query) -> SearchAnswer:
        return self._client.search(
            query.image,
            code=query.code,
            id=query.id,
            k=query.k,
            radius=query.radius,
            filter=query.filter,
            collection=query.collection,
            rescore=query.rescore,
        )

    def classify(self, query: Query) -> Classification:
        return self._client.classify(
            query.image,
            code=query.code,
            id=query.id,
            k=query.k,
            radius=query.radius,
            filter=query.filter,
            collection=query.collection,
        )

    def get(self, collection: str, id: str) -> Item:
        return self._client.get(id, collection)

    def original(self, collection: str, id: str) -> bytes:
        return self._client.original(id, collection)

    def get_many(self, collection: str, ids: Sequence[str]) -> list[Item | None]:
        found = self._lookup(collection, sorted(set(ids), key=str.encode))
        return [found.get(id) for id in ids]

    def list_items(self, collection: str, after: str | None, limit: int) -> list[Item]:
        return self._client.list_items(collection, after, limit)

    def upsert(self, collection: str, items: Sequence[Item], model: ModelRef) -> None:
        new = [NewItem(i.id, None, i.code, i.label, i.metadata, i.uri) for i in items]
        self._client.add(new, collection, model.id)

    def put(self, collection: str, item: NewItem) -> None:
        self._client.put(item, collection)

    def delete(self, collection: str, id: str) -> None:
        self._client.delete(id, collection)

    def collections(self) -> list[CollectionInfo]:
        return self._client.collections()

    def collection(self, name: str) -> CollectionInfo:
        return self._client.collection(name)

    def create_collection(self, name: str) -> CollectionInfo:
        return self._client.create_collection(name)

    def delete_collection(self, name: str) -> None:
        self._client.delete_collection(name)

    def missing(self, collection: str, after: str | None) -> tuple[list[Item], str | None]:
        """Items that the generation which is being made has not; see `Client.missing`."""
        return self._client.missing(collection, after)

    def fill(self, collection: str, model: str, recoded: Sequence[tuple[Item, bytes]]) -> int:
        """Put codes into the generation that is being made; see `Client.fill`."""
        return self._client.fill(collection, model, recoded)

    def client(self) -> Client:
        return self._client

    def close(self) -> None:
        self._client.close()

    def _lookup(self, collection: str, ids: Sequence[str]) -> dict[str, Item]:
        """Those of the sorted `ids` that are there.

        HTTP has no call for many ids. But neighbours in a folder are neighbours by id: one id is asked
        for, and a page from there on answers for those that follow it, as long as it reaches.
        """
        found: dict[str, Item] = {}
        position = 0
        while position < len(ids):
            first = ids[position]
            position += 1
            limit = min(LARGEST_PAGE, 2 * (len(ids) - position) + 1)
            try:
                found[first] = self._client.get(first, collection)
            except NotFound:
                pass
            except InvalidItem:
                continue  # What no item may be called, none is called.
            try:
                page = self._client.list_items(collection, first, limit)
            except NotFound:
                break  # The collection does not exist yet.
            found |= {item.id: item for item in page}
            if len(page) < limit:
                break  # The collection ends here, and with it what can be found.
            while position < len(ids) and ids[position].encode() <= page[-1].id.encode():
                position += 1
        return found
