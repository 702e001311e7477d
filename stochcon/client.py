"""`Client`: the service's HTTP calls as typed methods.

    with Client("http://127.0.0.1:8000") as client:
        client.add([NewItem(id="cat.jpg", image=Path("cat.jpg"), label="cat")])
        for hit in client.search(Path("other.jpg"), k=5).hits:
            print(hit.distance, hit.id)

Every method raises the exceptions of `contracts.errors`, the same that the service raised.
"""

import base64
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from contracts.codes import to_text
from contracts.errors import InvalidInput, StochConError, TooLarge
from index.protocol import DEFAULT_COLLECTION, CollectionInfo, Item
from stochcon import wire
from stochcon.jobs_client import JobsClient
from stochcon.results import (
    ActivationInfo,
    Classification,
    Encoding,
    ImageLike,
    ModelInfo,
    NewItem,
    SearchAnswer,
)
from stochcon.transport import Transport

MAX_IMAGES = 64
"""Images that the service takes in one request."""

MAX_REQUEST_BYTES = 120 * 2**20
"""Image bytes sent in one request; the rest of the service's 128 MiB is for what frames them."""

_MODEL_TIMEOUT_S = 600.0
"""For calls that load a model, or look through whole collections."""


class Client:
    """A StochCon service. Safe to use from many threads; use it as a context manager, or close it."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        """`max_retries` bounds how often a full queue is asked again, after the time that it names."""
        self._transport = Transport(url, api_key, timeout_s, max_retries)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def jobs(self) -> JobsClient:
        """Sources that the service indexes in the background."""
        return JobsClient(self._transport)

    def ready(self) -> dict[str, Any]:
        """What `/readyz` says: model, provider and precision in use. Raises BackendUnavailable."""
        answer: dict[str, Any] = self._transport.request("GET", "/readyz")
        return answer

    def encode(self, image: ImageLike) -> Encoding:
        """The code of one image. Raises InvalidImage or TooLarge if it is bad."""
        (result,) = self._encode([to_bytes(image)])
        if isinstance(result, StochConError):
            raise result
        return result

    def encode_many(self, images: Iterable[ImageLike]) -> list[Encoding | StochConError]:
        """Codes of any number of images, in order, with an exception in the place of each bad one."""
        results: list[Encoding | StochConError] = []
        for part in _requests(map(to_bytes, images)):
            try:
                results += self._encode(part)
            except (InvalidInput, TooLarge) as exc:
                if len(part) > 1:
                    raise
                results.append(exc)  # A request with one image is refused whole when that is bad.
        return results

    def search(
        self,
        image: ImageLike | None = None,
        *,
        code: bytes | None = None,
        id: str | None = None,
        k: int = 10,
        radius: int | None = None,
        filter: Mapping[str, Any] | None = None,
        collection: str = DEFAULT_COLLECTION,
        exact: bool = True,
        rescore: bool = False,
    ) -> SearchAnswer:
        """Nearest items of exactly one of `image`, `code` and `id`. Raises InvalidQuery, NotFound."""
        options = {"k": k, "radius": radius, "filter": filter, "collection": collection, "exact": exact}
        answer = self._query("/search", image, code, id, options | {"rescore": rescore or None})
        return wire.search_answer(answer)

    def classify(
        self,
        image: ImageLike | None = None,
        *,
        code: bytes | None = None,
        id: str | None = None,
        k: int = 10,
        radius: int | None = None,
        filter: Mapping[str, Any] | None = None,
        collection: str = DEFAULT_COLLECTION,
    ) -> Classification:
        """Labels of exactly one of `image`, `code` and `id`, by its labelled neighbours."""
        options = {"k": k, "radius": radius, "filter": filter, "collection": collection}
        return wire.classification(self._query("/classify", image, code, id, options))

    def add(
        self, items: Sequence[NewItem], collection: str = DEFAULT_COLLECTION, model: str | None = None
    ) -> list[str]:
        """Insert or replace items in one request, all or nothing, and return their ids.

        All have images (at most 64) or all have codes (at most 10,000). `model` is the id of the model
        that made the codes: another than the collection's raises ModelMismatch.
        """
        if any((item.image is None) == (item.code is None) for item in items):
            raise ValueError("an item to add must have either an image or a code")
        bodies = [wire.item_body(item) for item in items]
        if not any(item.image is not None for item in items):
            body = {"items": bodies, "collection": collection} | ({"model": model} if model else {})
            answer = self._transport.request("POST", "/items", json=body)
        else:
            if any(item.image is None for item in items):
                raise ValueError("items to add in one request must all have images, or all have codes")
            parts = _image_parts([to_bytes(item.image) for item in items if item.image is not None])
            parts.append(("items", (None, json.dumps(bodies).encode(), "application/json")))
            params = {"collection": collection, "model": model}
            answer = self._transport.request("POST", "/items", params=params, files=parts)
        ids: list[str] = answer["ids"]
        return ids

    def put(self, item: NewItem, collection: str = DEFAULT_COLLECTION) -> None:
        """Replace the item of that id by this one, or add it."""
        if item.id is None or (item.image is None) == (item.code is None):
            raise ValueError("an item to put must have an id, and either an image or a code")
        body = wire.item_body(item) | {"collection": collection}
        del body["id"]
        if item.image is not None:
            body["image"] = base64.b64encode(to_bytes(item.image)).decode("ascii")
        self._transport.request("PUT", _item_path(item.id), json=body)

    def get(self, id: str, collection: str = DEFAULT_COLLECTION) -> Item:
        """One item. Raises NotFound."""
        return wire.item(self._transport.request("GET", _item_path(id), params={"collection": collection}))

    def original(self, id: str, collection: str = DEFAULT_COLLECTION) -> bytes:
        """The image file of an item. Raises NotFound if the service does not keep it."""
        return self._transport.file(_path("originals", id), {"collection": collection})

    def delete(self, id: str, collection: str = DEFAULT_COLLECTION) -> None:
        """Delete one item. Raises NotFound."""
        self._transport.request("DELETE", _item_path(id), params={"collection": collection})

    def list_items(
        self, collection: str = DEFAULT_COLLECTION, after: str | None = None, limit: int = 100
    ) -> list[Item]:
        """Items in the order of their ids' UTF-8 bytes, from the first id above `after`."""
        params = {"collection": collection, "after": after, "limit": limit}
        answer = self._transport.request("GET", "/items", params=params)
        return [wire.item(entry) for entry in answer["items"]]

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        answer = self._transport.request("GET", "/collections")
        return [wire.collection(entry) for entry in answer["collections"]]

    def collection(self, name: str) -> CollectionInfo:
        """One collection. Raises NotFound."""
        return wire.collection(self._transport.request("GET", _path("collections", name)))

    def create_collection(self, name: str) -> CollectionInfo:
        """Make an empty collection for the active model, or return the one there is."""
        return wire.collection(self._transport.request("PUT", _path("collections", name)))

    def delete_collection(self, name: str) -> None:
        """Delete a collection and its items. Raises NotFound."""
        self._transport.request("DELETE", _path("collections", name))

    def models(self) -> list[ModelInfo]:
        """The models of the service."""
        return [wire.model_info(entry) for entry in self._transport.request("GET", "/models")["models"]]

    def model(self, id: str) -> ModelInfo:
        """One model. Raises NotFound."""
        return wire.model_info(self._transport.request("GET", _path("models", id)))

    def upload_model(self, path: Path, name: str | None = None) -> ModelInfo:
        """Put a model file into the service's model folder; nothing is activated.

        Raises Forbidden if the service has no API key, InvalidModel.
        """
        answer = self._transport.request(
            "POST",
            "/models",
            params={"name": name or path.stem},
            content=path.read_bytes(),
            timeout_s=_MODEL_TIMEOUT_S,
        )
        return wire.model_info(answer)

    def delete_model(self, id: str) -> None:
        """Delete a model's file. Raises NotFound, Conflict if it is in use."""
        self._transport.request("DELETE", _path("models", id))

    def activate_model(self, id: str, missing: Literal["ask", "leave-out", "keep"] = "ask") -> ActivationInfo:
        """Begin to put a model into use; `missing` says what becomes of items without a source.

        Raises NotFound, InvalidModel, Conflict. See `activation` for how far it is.
        """
        body = {"missing": missing}
        return wire.activation(self._transport.request("POST", _path("models", id, "activate"), json=body))

    def cancel_activation(self, id: str) -> ActivationInfo:
        """Give up the activation of a model. Raises Conflict."""
        return wire.activation(self._transport.request("DELETE", _path("models", id, "activate")))

    def rollback_model(self, id: str) -> ActivationInfo:
        """Go back from the active model, of that id, to the one before it. Raises NotFound, Conflict."""
        path = _path("models", id, "rollback")
        return wire.activation(self._transport.request("POST", path, timeout_s=_MODEL_TIMEOUT_S))

    def activation(self) -> ActivationInfo | None:
        """The activation that is under way, or the last one."""
        found = self._transport.request("GET", "/models")["activation"]
        return None if found is None else wire.activation(found)

    def missing(self, collection: str, after: str | None = None) -> tuple[list[Item], str | None]:
        """Items that are not encoded yet by the model that is being activated, a part, and where to go on.

        For workers. Raises NotFound if the collection has no other generation.
        """
        path = _path("collections", collection, "missing")
        answer = self._transport.request("GET", path, params={"after": after})
        return [wire.item(entry) for entry in answer["items"]], answer["after"]

    def fill(self, collection: str, model: str, recoded: Sequence[tuple[Item, bytes]]) -> int:
        """Give items their codes by the model that is being activated, if they have not changed since.

        For workers. Returns how many have not. Raises ModelMismatch if another model is activated by now.
        """
        items = [{"id": i.id, "code": to_text(code), "of": to_text(i.code)} for i, code in recoded]
        body = {"model": model, "items": items}
        answer = self._transport.request("POST", _path("collections", collection, "recoded"), json=body)
        filled: int = answer["filled"]
        return filled

    def _encode(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        answer = self._transport.request("POST", "/encode", files=_image_parts(images))
        return wire.encodings(answer)

    def _query(
        self, path: str, image: ImageLike | None, code: bytes | None, id: str | None, options: dict[str, Any]
    ) -> Any:
        if (image is not None) + (code is not None) + (id is not None) != 1:
            raise ValueError("a query is exactly one of an image, a code and an id")
        if image is None:
            query = {"code": to_text(code)} if code is not None else {"id": id}
            body = {key: value for key, value in options.items() if value is not None}
            return self._transport.request("POST", path, json=query | body)
        if options["filter"] is not None:
            options = options | {"filter": json.dumps(options["filter"])}
        return self._transport.request("POST", path, params=options, files=_image_parts([to_bytes(image)]))


def to_bytes(image: ImageLike) -> bytes:
    """The bytes of an image file. A PIL image becomes an upright PNG with the same pixels."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, Path)):
        return Path(image).read_bytes()
    from contracts.pixels import to_rgb  # Pillow is only needed for those who use it.

    buffer = io.BytesIO()
    to_rgb(image.copy()).save(buffer, "PNG")
    return buffer.getvalue()


def _requests(images: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Share images out so that each request stays within the service's limits."""
    part: list[bytes] = []
    size = 0
    for image in images:
        if part and (len(part) == MAX_IMAGES or size + len(image) > MAX_REQUEST_BYTES):
            yield part
            part, size = [], 0
        part.append(image)
        size += len(image)
    if part:
        yield part


def _path(*parts: str) -> str:
    # "." and ".." are ids like any other, but URLs drop them unless they are encoded, too.
    return "".join("/" + (quote(p, safe="") if p.strip(".") else p.replace(".", "%2E")) for p in parts)


def _item_path(id: str) -> str:
    return _path("items", id)


def _image_parts(images: Iterable[bytes]) -> list[tuple[str, tuple[str | None, bytes, str]]]:
    return [("image", (str(i), data, "application/octet-stream")) for i, data in enumerate(images)]
