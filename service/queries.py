"""What can be asked of the engine: queries, items to keep, and their limits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.codes import check_length, from_text, num_bytes
from contracts.errors import InvalidInput, InvalidItem, InvalidQuery, ModelMismatch, StochConError
from index.protocol import DEFAULT_COLLECTION, MAX_K, Metadata, ModelRef, SearchResult
from service.encoding.encoding import Encoding
from service.knn import LabelScore

_MODEL_ID = re.compile(r"[0-9a-f]{64}")

MAX_QUERIES = 256
MAX_LABEL_BYTES = 1024
MAX_URI_BYTES = 4096

Image = bytes | Encoding
"""The bytes of an image file, or what they were already encoded to."""

Code = bytes | str
"""A packed code, or its standard base64."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: exactly one of `image`, `code` and `id`."""

    image: Image | None = None
    code: Code | None = None
    id: str | None = None
    model: str | None = None
    """Id of the model that made `code`; the active one if None."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Where and how to look."""

    collection: str = DEFAULT_COLLECTION
    k: int = 10
    radius: int | None = None
    """Largest distance in bits, inclusive."""
    filter: Mapping[str, Any] | None = None
    exact: bool = True
    rescore: bool = False
    """Rank by expected distance under the image's posterior."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to keep: exactly one of `image` and `code`."""

    id: str | None = None
    """A UUIDv7 is made if None."""
    image: Image | None = None
    code: Code | None = None
    label: str | None = None
    metadata: Metadata = field(default_factory=dict)
    uri: str | None = None
    file: bytes | None = None
    """The image file, where `image` is what it was encoded to."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Labels of one query, best first, and the labelled neighbours that voted."""

    labels: list[LabelScore]
    neighbours: SearchResult
    method: str = "knn"


def check_queries(queries: Sequence[Query], options: SearchOptions) -> None:
    """Raise InvalidQuery for numbers out of range, and for a query that is not exactly one thing."""
    if not 1 <= len(queries) <= MAX_QUERIES:
        raise InvalidQuery(f"there are {len(queries)} queries: send 1 to {MAX_QUERIES}")
    if not 1 <= options.k <= MAX_K:
        raise InvalidQuery(f"k is {options.k}: it must be 1 to {MAX_K}")
    if options.radius is not None and options.radius < 0:
        raise InvalidQuery(f"radius is {options.radius}: it must be 0 or more bits")
    for query in queries:
        if sum(part is not None for part in (query.image, query.code, query.id)) != 1:
            raise InvalidQuery("a query must have exactly one of image, code and id")
        if options.rescore and query.image is None:
            raise InvalidQuery("rescore needs the image: a code alone does not say how sure its bits are")


def check_item(item: NewItem, position: int) -> None:
    """Raise InvalidItem unless the item is exactly one of an image and a code, of texts within limits."""
    if (item.image is None) == (item.code is None):
        raise InvalidItem(f"item {position} must have exactly one of image and code")
    if item.id is not None and not isinstance(item.id, str):
        raise InvalidItem(f"item {position}: the id is {type(item.id).__name__}: give it as a string")
    for what, text, limit in (("label", item.label, MAX_LABEL_BYTES), ("uri", item.uri, MAX_URI_BYTES)):
        # What is no text, or no Unicode, the store refuses.
        if isinstance(text, str) and 4 * len(text) > limit:
            num_bytes = len(text.encode("utf-8", "surrogatepass"))
            if num_bytes > limit:
                raise InvalidItem(
                    f"item {position}: the {what} has {num_bytes} bytes of UTF-8 and the limit is {limit}: "
                    "shorten it"
                )


def to_code(code: Code, num_bits: int) -> bytes:
    """The packed code. Raises InvalidItem for text that is no base64, or another length."""
    if isinstance(code, str):
        return from_text(code, num_bits)
    check_length(code, num_bytes(num_bits))
    return code


def at_position(error: StochConError, position: int) -> StochConError:
    """The same error, saying which of several images it is about."""
    named: StochConError = type(error)(f"image {position}: {error}")
    return named


def without_made_id(error: InvalidItem, made_ids: Mapping[str, int]) -> InvalidItem:
    """The same error, naming the item by its position where its id was made here: no caller knows it."""
    for item_id, position in made_ids.items():
        name = f"item {item_id!r}"
        if str(error).startswith(name):
            return InvalidItem(f"item {position}{str(error).removeprefix(name)}")
    return error


def check_named(named: str | None, bound: ModelRef, active: ModelRef, collection: str) -> None:
    """Raise ModelMismatch unless posted codes are of the model that the collection is bound to.

    Codes whose model is not named are the active one's. Raises InvalidInput for a name in the place of an
    id: a name may be that of several models.
    """
    if named is None and bound.id == active.id:
        return
    if named is not None and not _MODEL_ID.fullmatch(named):
        raise InvalidInput(
            f"model is {named[:80]!r}, which is no id: give the id of the model that made the codes, 64 "
            f"hexadecimal digits; that of {bound.name}, whose codes {collection!r} keeps, is {bound.id}"
        )
    if named != bound.id:
        made_by = f"the model {named}" if named else f"the active model {show_model(active)}"
        raise ModelMismatch(
            f"the collection {collection!r} keeps codes of the model {show_model(bound)} and these codes are "
            f"of {made_by}: encode the images again, use another collection, or say by `model` that "
            f"{bound.id} made the codes"
        )


def show_model(model: ModelRef) -> str:
    """A model in a message."""
    return f"{model.name} ({model.id[:12]}, {model.num_bits} bits)"


def file_of(item: NewItem) -> bytes | None:
    """The image file of an item, if it came with one."""
    return item.image if isinstance(item.image, bytes) else item.file
