"""The exceptions of StochCon.

Every failure that a caller can meet at run time is one of these. A message says what is wrong, the
value, the limit and the remedy. Nothing below the HTTP routes knows a status code: the service maps
`slug` to a status in one table, and the client maps it back to the class.

    StochConError
    ├── InvalidInput           the content of a request cannot be used
    │   ├── InvalidImage       not an image, truncated, or a kind that cannot be decoded
    │   ├── InvalidQuery       k, radius, filter or the query itself
    │   └── InvalidItem        id, code, label or metadata of an item
    ├── TooLarge               a body, an image or a list over its limit
    ├── RequestTimeout         the rest of a request's body did not come
    ├── UnsupportedMedia       a body of a type that is not read here
    ├── Unauthorized           the API key is missing or wrong
    ├── Forbidden              a web page of another origin may have sent the request
    ├── NotFound               no such item, collection or model
    ├── ModelMismatch          codes of one model offered to a collection of another
    ├── Conflict               a job or a model in a state that does not allow what is asked
    ├── InvalidModel           not a StochCon model file, or one that makes no codes
    ├── StoreLocked            another process owns the store
    ├── StoreCorrupt           the store's own files contradict each other
    ├── Overloaded             the queue is full; `retry_after_s` says when to come back
    └── BackendUnavailable     a provider, a server or a disk that was needed did not answer
"""

from typing import ClassVar


class StochConError(Exception):
    """Root of everything StochCon raises at run time."""

    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "StochCon error"


class InvalidInput(StochConError):
    """The content of a request cannot be used."""

    slug = "invalid-input"
    title = "Invalid input"


class InvalidImage(InvalidInput):
    """Bytes that are not an image, or are one that cannot be decoded."""

    slug = "invalid-image"
    title = "Invalid image"


class InvalidQuery(InvalidInput):
    """A search, filter or classification that cannot be answered."""

    slug = "invalid-query"
    title = "Invalid query"


class InvalidItem(InvalidInput):
    """An item whose id, code, label or metadata breaks the rules."""

    slug = "invalid-item"
    title = "Invalid item"


class TooLarge(StochConError):
    """Something over its limit."""

    slug = "too-large"
    title = "Too large"


class RequestTimeout(StochConError):
    """The rest of a request's body did not come in time."""

    slug = "request-timeout"
    title = "Request timed out"


class UnsupportedMedia(StochConError):
    """A body whose media type is not read here."""

    slug = "unsupported-media"
    title = "Unsupported media type"


class Unauthorized(StochConError):
    """The API key is missing or wrong."""

    slug = "unauthorized"
    title = "API key missing or wrong"


class Forbidden(StochConError):
    """A request that a web page of another origin may have made, to a service without a key."""

    slug = "forbidden"
    title = "Request of another origin"


class NotFound(StochConError):
    """No item, collection or model of that name."""

    slug = "not-found"
    title = "Not found"


class ModelMismatch(StochConError):
    """Codes of one model offered where those of another are kept."""

    slug = "model-mismatch"
    title = "Codes of another model"


class Conflict(StochConError):
    """A job or a model is in a state that does not allow what is asked."""

    slug = "conflict"
    title = "Not possible in this state"


class InvalidModel(StochConError):
    """A file that is not a StochCon model, or a model that makes no codes."""

    slug = "invalid-model"
    title = "Invalid model"


class StoreLocked(StochConError):
    """Another process owns the store; `url` is where it listens, if it serves."""

    slug = "store-locked"
    title = "Store in use"

    def __init__(self, message: str, url: str | None = None) -> None:
        super().__init__(message)
        self.url = url


class StoreCorrupt(StochConError):
    """The store's own files contradict each other."""

    slug = "store-corrupt"
    title = "Store damaged"


class Overloaded(StochConError):
    """The queue is full."""

    slug = "overloaded"
    title = "Overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendUnavailable(StochConError):
    """A provider, a server or a disk that was needed did not answer."""

    slug = "backend-unavailable"
    title = "Backend unavailable"


def _tree(root: type[StochConError]) -> dict[str, type[StochConError]]:
    found = {root.slug: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


ERRORS_BY_SLUG: dict[str, type[StochConError]] = _tree(StochConError)
