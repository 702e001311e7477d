"""The JSON of requests and answers: what /docs shows, and how parameters are checked.

Answers are written by the routes directly, for speed; the tests hold every answer against its schema.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from index.protocol import DEFAULT_COLLECTION, MAX_K
from service.activation_record import Policy
from service.activation_record import State as ActivationState
from service.queries import MAX_QUERIES


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ClassifyParameters(Schema):
    """Where and how to look."""

    collection: str = DEFAULT_COLLECTION
    k: int = Field(default=10, ge=1, le=MAX_K)
    """Most hits to answer."""
    radius: int | None = Field(default=None, ge=0)
    """Largest distance in bits, inclusive."""
    filter: dict[str, Any] | None = None
    """For example `{"label": "cat", "metadata.year": {"gte": 2020}}`."""
    exact: bool = True
    """Whether every item must be looked at."""


class SearchParameters(ClassifyParameters):
    """The same for a search, which may look twice."""

    rescore: bool = False
    """Rank by expected distance under the image's posterior; needs an image."""


class CodeOrId(Schema):
    """One query of a batch."""

    code: str | None = None
    id: str | None = None


class QueryFields(Schema):
    """Exactly one of `image`, `code`, `id` and `queries`."""

    image: str | None = None
    """An image file in standard base64."""
    code: str | None = None
    """A code in standard base64."""
    id: str | None = None
    """An item of the collection."""
    queries: list[CodeOrId] | None = Field(default=None, min_length=1, max_length=MAX_QUERIES)
    """Several codes and ids, answered in order as `results`."""
    model: str | None = None
    """Id of the model that made the codes; the active one if left out."""


class SearchRequest(QueryFields, SearchParameters):
    """Exactly one of `image`, `code`, `id` and `queries`, and where and how to look."""


class ClassifyRequest(QueryFields, ClassifyParameters):
    """Exactly one of `image`, `code`, `id` and `queries`, and where and how to look."""


class EncodeRequest(Schema):
    """Exactly one of `image` and `images`, image files in standard base64."""

    image: str | None = None
    images: list[str] | None = None


class ItemFields(Schema):
    """An item: exactly one of `image` and `code`."""

    image: str | None = None
    """An image file in standard base64."""
    code: str | None = None
    """A code in standard base64."""
    label: str | None = None
    """At most 1024 bytes of UTF-8."""
    metadata: dict[str, Any] | None = None
    """A flat object of strings, finite numbers, booleans, null and lists of strings."""
    uri: str | None = None
    """At most 4096 bytes of UTF-8."""
    original: int | None = None
    """Not read: it is there so that an item can be sent as it was answered."""


class NewItemFields(ItemFields):
    id: str | None = None
    """1 to 255 bytes of UTF-8; a UUIDv7 is made if left out."""


class ItemsRequest(Schema):
    items: list[NewItemFields]
    collection: str = DEFAULT_COLLECTION
    model: str | None = None
    """Id of the model that made the codes; the active one if left out."""


class PutItemRequest(ItemFields):
    collection: str = DEFAULT_COLLECTION
    model: str | None = None


class NoParameters(Schema):
    """The query string of a call that takes none: one that is misspelt is refused, not ignored."""


class ItemParameters(Schema):
    """Where an item is."""

    collection: str = DEFAULT_COLLECTION


class ListParameters(ItemParameters):
    """Which items to list."""

    after: str | None = None
    """The last id of the page before."""
    limit: int = Field(default=100, ge=1, le=1000)


class WriteParameters(Schema):
    """Where items that come as images go."""

    collection: str = DEFAULT_COLLECTION
    model: str | None = None


class Problem(Schema):
    """An error, RFC 9457. `detail` says what, the value, the limit and the remedy."""

    type: str
    title: str
    status: int
    detail: str


class Model(Schema):
    id: str
    name: str
    num_bits: int


class Encoded(Schema):
    code: str
    """Standard base64 of num_bits / 8 bytes."""
    active_bits: int
    entropy_bits: float
    """How unsure the model was, summed over the bits."""


class Failed(Schema):
    error: Problem


class EncodeAnswer(Schema):
    model: Model
    results: list[Encoded | Failed]


class FoundItem(Schema):
    id: str
    distance: int
    """Bits that differ."""
    label: str | None
    metadata: dict[str, Any]
    uri: str | None


class SearchResults(Schema):
    hits: list[FoundItem]
    exact: bool
    certified: bool | None
    """For re-ranked answers: whether nothing left out can rank higher."""
    truncated: bool
    """Whether more than `k` items lie within `radius`."""


class SearchAnswer(SearchResults):
    model: Model


class BatchSearchAnswer(Schema):
    results: list[SearchAnswer]


class LabelScore(Schema):
    label: str
    score: float


class ClassifyAnswer(SearchAnswer):
    labels: list[LabelScore]
    """Best first; the scores sum to 1."""
    method: Literal["knn", "head", "model"]


class BatchClassifyAnswer(Schema):
    results: list[ClassifyAnswer]


class IdsAnswer(Schema):
    ids: list[str]


class StoredItem(Schema):
    id: str
    code: str
    label: str | None
    metadata: dict[str, Any]
    uri: str | None
    original: int | None
    """Key of its image file, if that is kept: `/originals/{id}` gives it."""


class ItemsAnswer(Schema):
    items: list[StoredItem]


class CollectionModel(Model):
    provider: str
    """Provider and precision of the first write."""


class Collection(Schema):
    name: str
    model: CollectionModel
    num_items: int
    num_labelled: int
    disk_bytes: int
    memory_bytes: int
    num_originals: int
    """Image files that are kept."""
    original_bytes: int
    """Their bytes, beside `disk_bytes`."""


class MissingParameters(Schema):
    after: str | None = None
    """What the answer before gave as `after`."""


class MissingAnswer(Schema):
    items: list[StoredItem]
    after: str | None
    """Where to go on; null at the end."""


class RecodedItem(Schema):
    id: str
    code: str
    """Standard base64, by the model that is being activated."""
    of: str
    """The item's code in its collection when its source was read."""


class RecodedRequest(Schema):
    model: str
    """Id of the model that made the codes."""
    items: list[RecodedItem] = Field(max_length=10_000)


class RecodedAnswer(Schema):
    filled: int


class CollectionsAnswer(Schema):
    collections: list[Collection]


class ModelCard(Schema):
    id: str
    name: str
    version: str
    num_bits: int
    active: bool
    """Whether it encodes the images that come."""
    manifest: dict[str, Any]


class Fault(Schema):
    file: str
    detail: str


class ModelChecked(Schema):
    id: str
    num_bits: int
    provider: str
    images_per_s: float
    active_share: float
    """Share of the bits that are 1, over four made-up pictures."""
    differing_share: float
    """Share of the bits in which two of them differ."""


class ActivationAnswer(Schema):
    model: str
    """Id of the model that is put into use."""
    previous: str
    """Id of the one before."""
    missing: Policy
    state: ActivationState
    jobs: dict[str, str]
    """Job that encodes again, by collection."""
    left_out: dict[str, int]
    """Items that could not be encoded again, by collection; the failures of its job say why."""
    check: ModelChecked | None
    """What the check in a process of its own found."""
    reason: str | None
    """Why it failed."""


class UploadParameters(Schema):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Of the file, without `.onnx`."""


class ActivateRequest(Schema):
    missing: Policy = "ask"
    """What is to become of items that cannot be encoded again: `ask` waits for another call that says so,
    `leave-out` goes on without them, `keep` leaves their collections with the model they have."""


class ModelsAnswer(Schema):
    models: list[ModelCard]
    faults: list[Fault]
    """Files of the model folder that are no models."""
    activation: ActivationAnswer | None
    """The activation that is under way, or the last one."""


class Alive(Schema):
    status: Literal["alive"]


class Ready(Schema):
    status: Literal["ready"]
    model: Model
    provider: str
    precision: str
    notes: list[str]
    """Why other providers are not in use."""
