"""What a store of codes does, whichever backend keeps them.

A store holds collections; a collection is bound to the model whose codes it keeps. Every method is
safe to call from many threads. Writes are all or nothing and return only when they are durable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts.codes import Codes
from index.originals import Originals

Metadata = Mapping[str, str | int | float | bool | list[str] | None]

DEFAULT_COLLECTION = "default"
_OTHER = "@other"

MAX_K = 1000
"""Most hits of one search."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model whose codes a collection keeps, and how they were made."""

    id: str
    name: str
    num_bits: int
    provider: str = ""
    """Execution provider and precision of the first write, for example `openvino-bf16`; a record only."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a collection."""

    id: str
    code: bytes
    label: str | None = None
    metadata: Metadata = field(default_factory=dict)
    uri: str | None = None
    original: int | None = None
    """Key of its image file, if that is kept; see `index.originals`."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An item found, at `distance` differing bits."""

    id: str
    distance: int
    label: str | None
    metadata: Metadata
    uri: str | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits of one query, sorted by distance and then id."""

    hits: list[Hit]
    truncated: bool
    """Whether `radius` was given and more than `k` items lie within it."""
    exact: bool
    certified: bool | None = None
    """For re-ranked answers: whether nothing left out can rank higher."""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection and what it costs."""

    name: str
    model: ModelRef
    num_items: int
    num_labelled: int
    disk_bytes: int
    """Bytes on disk of catalogue (its share) and segments."""
    memory_bytes: int
    """Bytes of memory that the searchable form takes."""
    num_originals: int = 0
    """Image files that are kept."""
    original_bytes: int = 0
    """Their bytes, beside `disk_bytes`."""


def other_generation(name: str) -> str:
    """What the calls of a store know a collection's other generation by; see `Store.stage`."""
    return name + _OTHER


def collection_name(name: str) -> str:
    """The collection that a name of either generation is of."""
    return name.removesuffix(_OTHER)


def is_other_generation(name: str) -> bool:
    """Whether a name is one of `other_generation`."""
    return name.endswith(_OTHER)


class Store(Protocol):
    """The calls that every backend answers alike."""

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        ...

    def collection(self, name: str) -> CollectionInfo:
        """One collection, its sizes measured now. Raises NotFound."""
        ...

    def model(self, name: str) -> ModelRef:
        """The model that a collection is bound to; cheap enough for every call. Raises NotFound."""
        ...

    def create_collection(self, name: str, model: ModelRef) -> CollectionInfo:
        """Make an empty collection, or return the one there is.

        Raises ModelMismatch if it is bound to another model, InvalidQuery for a bad name.
        """
        ...

    def delete_collection(self, name: str) -> None:
        """Delete a collection and its items. Raises NotFound."""
        ...

    def upsert(self, name: str, items: Sequence[Item], model: ModelRef) -> None:
        """Insert or replace items, all or nothing, making the collection if need be.

        When an id occurs twice in `items` the last one wins. Raises InvalidItem, ModelMismatch.
        """
        ...

    def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete those of `ids` that are there and return how many. Raises NotFound for the collection."""
        ...

    def get(self, name: str, ids: Sequence[str]) -> list[Item | None]:
        """Items in the order of `ids`, None where there is none. Raises NotFound for the collection."""
        ...

    def list_items(self, name: str, after: str | None = None, limit: int = 100) -> list[Item]:
        """Items in the order of their ids' UTF-8 bytes, from the first id above `after`. Raises NotFound."""
        ...

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

        `radius` is inclusive, in bits; `where` is a filter of the contract's form; `labelled_only`
        leaves out items without a label. Raises InvalidQuery, NotFound.
        """
        ...

    def rescore(
        self,
        name: str,
        logits: Any,
        *,
        k: int = 10,
        radius: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> SearchResult:
        """Nearest items by expected distance under the query's posterior, from float logits [num_bits]."""
        ...

    def stage(self, name: str, model: ModelRef) -> CollectionInfo:
        """See to it that a collection has another generation beside its current one, for codes of `model`.

        One of that model is kept, with what is in it; one of any other is deleted. All calls on items take
        `other_generation(name)` for it, and `collections` leaves it out. Raises NotFound for the collection.
        """
        ...

    def other_model(self, name: str) -> ModelRef | None:
        """The model of a collection's other generation; None if it has none, or is not there itself."""
        ...

    def drop_other(self, name: str) -> None:
        """Delete a collection's other generation, if there is one."""
        ...

    def switch(self, names: Sequence[str], active_model: str) -> None:
        """Make the other generation of each of `names` the current one and the current one the other.

        All of them and the active model change in one moment, durably, or nothing does. Raises NotFound for
        a collection without another generation. No write to them may be under way.
        """
        ...

    @property
    def active_model(self) -> str | None:
        """Id of the model that was given to the last `switch`."""
        ...

    def originals(self, name: str, make: bool = False) -> Originals | None:
        """Image files that are kept of a collection's items, which name them by `Item.original`.

        None if there are none, unless `make` says to begin. They go with the collection.
        """
        ...

    def sample(self, name: str, count: int, seed: int) -> Codes:
        """Codes of items drawn at random, with replacement: uint8 [count, num_bits / 8]; none if it is empty.

        Raises NotFound.
        """
        ...

    def verify(self) -> list[str]:
        """Check everything stored against its checksums and itself; a line for each fault, none if sound."""
        ...

    def close(self) -> None:
        """Give the store back. Every other call after this raises BackendUnavailable."""
        ...
