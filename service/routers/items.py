"""`/items`: what a collection keeps."""

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Query, Request, Response

from contracts.errors import InvalidInput, InvalidItem, StochConError, TooLarge
from contracts.structure import media_type
from service.bodies import (
    Body,
    check_num_images,
    image_from_text,
    parse_fields,
    parse_json,
    parse_query_string,
    read_body,
)
from service.context import Context, context_of
from service.openapi import image_or_json
from service.queries import NewItem, at_position
from service.routers.answers import item_body, json_response
from service.schemas import (
    IdsAnswer,
    ItemParameters,
    ItemsAnswer,
    ItemsRequest,
    ListParameters,
    PutItemRequest,
    StoredItem,
    WriteParameters,
)

router = APIRouter(tags=["items"])

_FIELDS = frozenset(("id", "image", "code", "label", "metadata", "uri"))
_TAKEN = _FIELDS | {"original"}  # Which is not read: an item may be sent as it was answered.
_ITEM_PATH, _ORIGINAL_PATH = b"/items/", b"/originals/"
"""Everything after it is the id, slashes and all."""

_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}
_AS_FILE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Whoever sent it chose what is in it, and a browser would show it as a page of this service. Pages of others
may not show it at all."""

Place = Annotated[ItemParameters, Query()]


@router.post(
    "/items",
    response_model=None,
    responses={200: {"model": IdsAnswer}},
    openapi_extra=image_or_json(
        ItemsRequest,
        {"items": [{"id": "cat.jpg", "code": "3q2+7w==...", "label": "cat", "metadata": {"year": 2024}}]},
        WriteParameters,
        has_items=True,
    ),
)
async def add(request: Request) -> Response:
    """Insert or replace items, all or nothing; answered when they are durable.

    Codes or images in JSON, or images as multipart with an optional part `items`: a JSON array of the
    other fields, in the same order. An item replaces the one of its id, whole.
    """
    context = context_of(request)
    body = await read_body(request, context.settings, text_parts=("items",))
    if body.fields is not None:
        fields, target = _target_of(body.fields)
        entries = fields.pop("items", None)
        if fields:
            raise InvalidInput(
                f"there is no field {next(iter(fields))!r} here: see /docs for what this call takes"
            )
        items = await context.call(_parse_items, entries, context)
    else:
        target = parse_query_string(WriteParameters, request)
        items = _with_images(body, context)
    return json_response({"ids": await _write(request, context, items, target)})


@router.put(
    "/items/{item_id:path}",
    response_model=None,
    responses={200: {"model": IdsAnswer}},
    openapi_extra=image_or_json(PutItemRequest, {"code": "3q2+7w==...", "label": "cat"}, WriteParameters),
)
async def put(item_id: str, request: Request) -> Response:
    """Keep one item under this id, in place of any other, whole; answered when it is durable.

    `collection` and `model` are fields of the JSON or parameters of the query string.
    """
    context = context_of(request)
    body = await read_body(request, context.settings, query_beside_json=True)
    target = parse_query_string(WriteParameters, request)
    if body.fields is not None:
        fields, target_in_body = _target_of(body.fields)
        twice = target.model_fields_set & target_in_body.model_fields_set
        if twice:
            raise InvalidInput(f"{twice.pop()} is given in the query string and in the JSON: give it once")
        if "id" in fields:
            raise InvalidItem("the id is in the path: leave it out of the JSON")
        target = target.model_copy(update=target_in_body.model_dump(exclude_unset=True))
        items = _parse_items([fields], context)
    else:
        items = _with_images(body, context)
        if len(items) != 1:
            raise InvalidItem(f"the request has {len(items)} images and an id stands for one: send one")
    items = [replace(items[0], id=_id_of(request))]
    return json_response({"ids": await _write(request, context, items, target)})


@router.get("/items", response_model=None, responses={200: {"model": ItemsAnswer}})
async def list_items(request: Request, page: Annotated[ListParameters, Query()]) -> Response:
    """Items in the order of their ids' UTF-8 bytes."""
    context = context_of(request)
    items = await context.call(context.engine.list_items, page.collection, page.after, page.limit)
    return json_response({"items": [item_body(item) for item in items]})


@router.get("/items/{item_id:path}", response_model=None, responses={200: {"model": StoredItem}})
async def get(item_id: str, request: Request, place: Place) -> Response:
    """One item, with its code."""
    context = context_of(request)
    item = await context.call(context.engine.get, _id_of(request), place.collection)
    return json_response(item_body(item))


@router.get("/originals/{item_id:path}", response_class=Response, responses=_FILE)
async def get_original(item_id: str, request: Request, place: Place) -> Response:
    """The image file of one item, as it was sent, from a service that keeps them."""
    context = context_of(request)
    file = await context.call(context.engine.original, _id_of(request, _ORIGINAL_PATH), place.collection)
    return Response(file, media_type=media_type(file), headers=_AS_FILE)


@router.delete("/items/{item_id:path}", response_model=None, status_code=204)
async def delete(item_id: str, request: Request, place: Place) -> Response:
    """Delete one item; answered when that is durable."""
    context = context_of(request)
    async with context.epoch.held():
        await context.call(context.engine.delete, _id_of(request), place.collection)
    return Response(status_code=204)


async def _write(
    request: Request, context: Context, items: list[NewItem], target: WriteParameters
) -> list[str]:
    images = [item.image for item in items if isinstance(item.image, bytes)]
    check_num_images(len(images), context.settings)
    async with context.epoch.held():
        encodings = iter(await context.encode(request, images, "write") if images else [])
        for position, item in enumerate(items):
            if not isinstance(item.image, bytes):
                continue
            encoding = next(encodings)
            if isinstance(encoding, StochConError):
                raise at_position(encoding, position) if len(items) > 1 else encoding
            items[position] = replace(item, image=encoding, file=item.image)
        # While a model is activated it encodes images too, and searches need not wait for that.
        call = context.call if context.engine.successor is None else context.call_apart
        return await call(context.engine.upsert, items, target.collection, target.model)


def _target_of(fields: dict[str, Any]) -> tuple[dict[str, Any], WriteParameters]:
    """The other fields of a JSON body, and where the items go."""
    own = {key: fields[key] for key in WriteParameters.model_fields if key in fields}
    return {key: fields[key] for key in fields if key not in own}, parse_fields(WriteParameters, own)


def _parse_items(entries: object, context: Context) -> list[NewItem]:
    """Items of a JSON array. Not by pydantic: 10,000 of them should take milliseconds."""
    if not isinstance(entries, list):
        raise InvalidItem('items is missing or no list: send {"items": [{"code": "..."}]}')
    limit = context.settings.max_codes
    if len(entries) > limit:
        raise TooLarge(f"the request has {len(entries)} items and the limit is {limit}: share them out")
    items = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidItem(f"item {position} is a JSON {type(entry).__name__}: send an object, in braces")
        if not entry.keys() <= _TAKEN:
            unknown, known = ", ".join(sorted(entry.keys() - _TAKEN)), ", ".join(sorted(_FIELDS))
            raise InvalidItem(f"item {position} has the unknown field {unknown}: its fields are {known}")
        code, image = entry.get("code"), entry.get("image")
        if code is not None and not isinstance(code, str):
            raise InvalidItem(
                f"item {position}: the code is {type(code).__name__}: send it in standard base64"
            )
        items.append(
            NewItem(
                id=entry.get("id"),
                image=None if image is None else image_from_text(image, f"the image of item {position}"),
                code=code,
                label=entry.get("label"),
                metadata={} if entry.get("metadata") is None else entry["metadata"],
                uri=entry.get("uri"),
            )
        )
    return items


def _with_images(body: Body, context: Context) -> list[NewItem]:
    """Items of images, with the other fields from the part `items` if there is one."""
    images = body.images or []
    if "items" not in body.texts:
        return [NewItem(image=image) for image in images]
    items = _parse_items(parse_json(body.texts["items"], "the part 'items'"), context)
    if len(items) != len(images):
        raise InvalidItem(
            f"there are {len(images)} images and {len(items)} items: send one item for each image, in order"
        )
    if any(item.code is not None or item.image is not None for item in items):
        raise InvalidItem("the part 'items' goes beside images: leave code and image out of it")
    return [replace(item, image=image) for item, image in zip(items, images, strict=True)]


def _id_of(request: Request, prefix: bytes = _ITEM_PATH) -> str:
    """The id as it was sent, after `prefix`. The path that routing sees has lost what was not UTF-8."""
    sent: bytes = request.scope.get("raw_path", b"").partition(b"?")[0]
    try:
        item_id = unquote_to_bytes(sent.removeprefix(prefix)).decode()
    except UnicodeDecodeError as exc:
        raise InvalidItem(f"the id in the path is not UTF-8 ({exc.reason}): percent-encode UTF-8") from exc
    return item_id
