"""`/collections`: named sets of items, each bound to one model."""

from base64 import b64decode
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from contracts.errors import InvalidItem
from service.bodies import parse_fields, read_body
from service.context import context_of
from service.openapi import json_only
from service.routers.answers import collection_body, item_body, json_response
from service.schemas import (
    Collection,
    CollectionsAnswer,
    MissingAnswer,
    MissingParameters,
    NoParameters,
    RecodedAnswer,
    RecodedRequest,
)
from service.successor import Recoded

router = APIRouter(tags=["collections"])

_RECODED = {"id": "photos/cat.jpg", "code": "3q2+7w==...", "of": "q83vEg==..."}


@router.get("/collections", response_model=None, responses={200: {"model": CollectionsAnswer}})
async def list_collections(request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """All collections, by name, with what they cost."""
    context = context_of(request)
    infos = await context.call(context.engine.collections)
    return json_response({"collections": [collection_body(info) for info in infos]})


@router.put("/collections/{name}", response_model=None, responses={200: {"model": Collection}})
async def create(name: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Make an empty collection bound to the active model, or answer the one there is."""
    context = context_of(request)
    async with context.epoch.held():
        made = await context.call(context.engine.create_collection, name)
    return json_response(collection_body(made))


@router.get("/collections/{name}", response_model=None, responses={200: {"model": Collection}})
async def get(name: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """One collection. `default` is there, empty, before its first item."""
    context = context_of(request)
    return json_response(collection_body(await context.call(context.engine.collection, name)))


@router.delete("/collections/{name}", response_model=None, status_code=204)
async def delete(name: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Delete a collection with its items; answered when that is durable."""
    context = context_of(request)
    async with context.epoch.held():
        await context.call(context.engine.delete_collection, name)
    return Response(status_code=204)


@router.get("/collections/{name}/missing", response_model=None, responses={200: {"model": MissingAnswer}})
async def missing(name: str, request: Request, page: Annotated[MissingParameters, Query()]) -> Response:
    """Items that are not encoded yet by the model that is being activated, by id. For workers.

    A call looks through some thousands of items; go on with `after` until that is null.
    """
    context = context_of(request)
    items, after = await context.call(context.engine.missing, name, page.after)
    return json_response({"items": [item_body(item) for item in items], "after": after})


@router.post(
    "/collections/{name}/recoded",
    response_model=None,
    responses={200: {"model": RecodedAnswer}},
    openapi_extra=json_only(RecodedRequest, {"model": "2c0d...", "items": [_RECODED]}),
)
async def recoded(name: str, request: Request) -> Response:
    """Give items their codes by the model that is being activated, unless they have changed. For workers.

    `of` is the item's code when its source was read.
    """
    context = context_of(request)
    body = await read_body(request, context.settings)
    sent = parse_fields(RecodedRequest, body.fields or {})
    async with context.epoch.held():
        filled = await context.call(context.engine.fill, name, sent.model, _recoded(sent))
    return json_response({"filled": filled})


def _recoded(sent: RecodedRequest) -> list[Recoded]:
    try:
        return [Recoded(item.id, _bytes(item.code), _bytes(item.of)) for item in sent.items]
    except ValueError as exc:
        raise InvalidItem(f"a code is not standard base64 ({exc})") from exc


def _bytes(text: str) -> bytes:
    content: bytes = b64decode(text, validate=True)
    return content
