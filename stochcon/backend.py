"""What verbs need of StochCon, whether it runs in this process or behind a URL.

Every error is one of `contracts.errors`, the same on both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from contracts.errors import StochConError
from index.protocol import DEFAULT_COLLECTION, CollectionInfo, Item, ModelRef
from stochcon.results import Classification, Encoding, ModelInfo, NewItem, SearchAnswer

if TYPE_CHECKING:
    from stochcon.client import Client


@dataclass(frozen=True, slots=True)
class Query:
    """Exactly one of `image`, `code` and `id`, and what is asked about it."""

    image: bytes | None = None
    code: bytes | None = None
    id: str | None = None
    collection: str = DEFAULT_COLLECTION
    k: int = 10
    radius: int | None = None
    filter: dict[str, Any] | None = None
    rescore: bool = False


class ImageEncoder(Protocol):
    """What needs models but no store."""

    def active_model(self) -> ModelRef:
        """The model that encodes."""
        ...

    def models(self) -> list[ModelInfo]:
        """The models there are."""
        ...

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        """Codes of images, in order, with an exception in the place of each bad one."""
        ...

    def close(self) -> None:
        """Give back what is held. No other call may follow."""
        ...


class Backend(ImageEncoder, Protocol):
    """The whole of it."""

    def search(self, query: Query) -> SearchAnswer:
        """Nearest items. Raises InvalidQuery, InvalidImage, NotFound."""
        ...

    def classify(self, query: Query) -> Classification:
        """Labels by the nearest labelled items. Raises as `search`."""
        ...

    def get(self, collection: str, id: str) -> Item:
        """One item. Raises NotFound."""
        ...

    def original(self, collection: str, id: str) -> bytes:
        """The image file of an item. Raises NotFound if it is not kept."""
        ...

    def get_many(self, collection: str, ids: Sequence[str]) -> list[Item | None]:
        """Items in the order of `ids`, None where there is none."""
        ...

    def list_items(self, collection: str, after: str | None, limit: int) -> list[Item]:
        """Items in the order of their ids' UTF-8 bytes, from the first id above `after`."""
        ...

    def upsert(self, collection: str, items: Sequence[Item], model: ModelRef) -> None:
        """Insert or replace items whose codes `model` made. Raises InvalidItem, ModelMismatch."""
        ...

    def put(self, collection: str, item: NewItem) -> None:
        """Insert or replace one item, encoding its image if it has one."""
        ...

    def delete(self, collection: str, id: str) -> None:
        """Delete one item. Raises NotFound."""
        ...

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        ...

    def collection(self, name: str) -> CollectionInfo:
        """One collection. Raises NotFound."""
        ...

    def create_collection(self, name: str) -> CollectionInfo:
        """Make an empty collection for the active model, or return the one there is."""
        ...

    def delete_collection(self, name: str) -> None:
        """Delete a collection and its items. Raises NotFound."""
        ...

    def client(self) -> "Client | None":
        """The service that is spoken to, for what only a service does; None where there is none."""
        ...
