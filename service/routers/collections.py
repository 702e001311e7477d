"""`/collections`: named sets of items, each bound to one model."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.context import context_of
from service.routers.answers import collection_body, json_response
from service.schemas import Collection, CollectionsAnswer, NoParameters

router = APIRouter(tags=["collections"])


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
    return json_response(collection_body(await context.call(context.engine.create_collection, name)))


@router.get("/collections/{name}", response_model=None, responses={200: {"model": Collection}})
async def get(name: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """One collection. `default` is there, empty, before its first item."""
    context = context_of(request)
    return json_response(collection_body(await context.call(context.engine.collection, name)))


@router.delete("/collections/{name}", response_model=None, status_code=204)
async def delete(name: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Delete a collection with its items; answered when that is durable."""
    context = context_of(request)
    await context.call(context.engine.delete_collection, name)
    return Response(status_code=204)
