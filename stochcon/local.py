"""The backend in this process: models and store opened here, for want of a service."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from contracts.errors import InvalidModel, NotFound, StochConError
from index.protocol import CollectionInfo, Item, ModelRef
from service import queries
from service.engine import Engine
from service.models import ModelFile, ModelFolder
from service.settings import Settings
from stochcon.backend import Query
from stochcon.client import to_bytes
from stochcon.encoders import ModelEncoder, with_model
from stochcon.results import Classification, Encoding, LabelScore, ModelInfo, NewItem, SearchAnswer


class LocalEncoder:
    """The models of a folder, without a store. The model is loaded by the first `encode_many`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = ModelFolder(settings.models)
        self._encoder: ModelEncoder | None = None

    def active_model(self) -> ModelRef:
        return self._active().ref()

    def models(self) -> list[ModelInfo]:
        return _model_infos(self._folder, self._active)

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        if self._encoder is None:
            self._encoder = ModelEncoder(self._active(), self._settings)
        return self._encoder.encode_many(images)

    def close(self) -> None:
        if self._encoder is not None:
            self._encoder.close()

    def _active(self) -> ModelFile:
        return self._folder.select(self._settings.model)


class LocalBackend:
    """An engine of our own. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def active_model(self) -> ModelRef:
        return self._engine.active.ref()

    def models(self) -> list[ModelInfo]:
        return _model_infos(self._engine.models, lambda: self._engine.active)

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        results = self._engine.encode_many(images)
        return with_model(results, self._engine.active.ref(self._engine.encoder.provider))

    def search(self, query: Query) -> SearchAnswer:
        result = self._engine.search(_question(query), _options(query))
        model = self._engine.model_of(query.collection)
        return SearchAnswer(result.hits, model, result.exact, result.certified, result.truncated)

    def classify(self, query: Query) -> Classification:
        found = self._engine.classify(_question(query), _options(query))
        votes, model = found.neighbours, self._engine.model_of(query.collection)
        return Classification(
            hits=votes.hits,
            model=model,
            exact=votes.exact,
            certified=votes.certified,
            truncated=votes.truncated,
            labels=[LabelScore(entry.label, entry.score) for entry in found.labels],
            method=found.method,
        )

    def get(self, collection: str, id: str) -> Item:
        return self._engine.get(id, collection)

    def original(self, collection: str, id: str) -> bytes:
        return self._engine.original(id, collection)

    def get_many(self, collection: str, ids: Sequence[str]) -> list[Item | None]:
        try:
            return self._engine.store.get(collection, ids)
        except NotFound:  # The collection does not exist yet.
            return [None] * len(ids)

    def list_items(self, collection: str, after: str | None, limit: int) -> list[Item]:
        return self._engine.list_items(collection, after, limit)

    def upsert(self, collection: str, items: Sequence[Item], model: ModelRef) -> None:
        self._engine.upsert_encoded(items, collection, model)

    def put(self, collection: str, item: NewItem) -> None:
        image = None if item.image is None else to_bytes(item.image)
        new = queries.NewItem(item.id, image, item.code, item.label, item.metadata, item.uri)
        self._engine.upsert([new], collection)

    def delete(self, collection: str, id: str) -> None:
        self._engine.delete(id, collection)

    def collections(self) -> list[CollectionInfo]:
        return self._engine.collections()

    def collection(self, name: str) -> CollectionInfo:
        return self._engine.collection(name)

    def create_collection(self, name: str) -> CollectionInfo:
        return self._engine.create_collection(name)

    def delete_collection(self, name: str) -> None:
        self._engine.delete_collection(name)

    def client(self) -> None:
        return None

    def close(self) -> None:
        self._engine.close()


def _question(query: Query) -> queries.Query:
    return queries.Query(query.image, query.code, query.id)


def _options(query: Query) -> queries.SearchOptions:
    return queries.SearchOptions(
        collection=query.collection,
        k=query.k,
        radius=query.radius,
        filter=query.filter,
        rescore=query.rescore,
    )


def _model_infos(folder: ModelFolder, select: Callable[[], ModelFile]) -> list[ModelInfo]:
    active: ModelFile | None = None
    with suppress(NotFound, InvalidModel):  # None of them can encode, and the list is what shows why.
        active = select()
    return [
        ModelInfo(
            id=model.id,
            name=model.manifest.name,
            version=model.manifest.version,
            num_bits=model.manifest.num_bits,
            active=active is not None and model.id == active.id,
            manifest=model.manifest.model_dump(mode="json"),
        )
        for model in folder.list().models
    ]
