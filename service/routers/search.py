"""`POST /search` and `POST /classify`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from contracts.errors import InvalidQuery, StochConError
from index.protocol import ModelRef
from service.bodies import Body, image_from_text, parse_fields, parse_query_string, read_body
from service.context import Context, context_of
from service.metrics import Use
from service.openapi import image_or_json
from service.queries import Query, SearchOptions
from service.routers.answers import classify_body, json_response, search_body
from service.schemas import (
    BatchClassifyAnswer,
    BatchSearchAnswer,
    ClassifyAnswer,
    ClassifyParameters,
    ClassifyRequest,
    SearchAnswer,
    SearchParameters,
    SearchRequest,
)

router = APIRouter(tags=["search"])

T = TypeVar("T")

_EXAMPLE = {"id": "photos/cat.jpg", "k": 5, "filter": {"label": "cat", "metadata.year": {"gte": 2020}}}


@router.post(
    "/search",
    response_model=None,
    responses={200: {"model": SearchAnswer | BatchSearchAnswer}},
    openapi_extra=image_or_json(SearchRequest, _EXAMPLE, SearchParameters),
)
async def search(request: Request) -> Response:
    """Nearest items by Hamming distance, sorted by distance and then id.

    Exactly one of an image, `code`, `id` and `queries`. Ties at the cut are arbitrary. A query by `id`
    finds that item too.
    """
    context = context_of(request)
    return await _answer(
        request, context, SearchRequest, SearchParameters, context.search_many, search_body, "search"
    )


@router.post(
    "/classify",
    response_model=None,
    responses={200: {"model": ClassifyAnswer | BatchClassifyAnswer}},
    openapi_extra=image_or_json(ClassifyRequest, _EXAMPLE, ClassifyParameters),
)
async def classify(request: Request) -> Response:
    """Labels by the votes of the `k` nearest labelled items.

    A neighbour at distance d votes with exp((1 - 2 d / num_bits) / 0.07); the scores sum to 1. Parameters
    are those of `/search` but `rescore`; `hits` are the neighbours that voted.
    """
    context = context_of(request)
    return await _answer(
        request,
        context,
        ClassifyRequest,
        ClassifyParameters,
        context.engine.classify_many,
        classify_body,
        "classify",
    )


async def _answer(
    request: Request,
    context: Context,
    fields: type[SearchRequest | ClassifyRequest],
    parameters: type[ClassifyParameters],
    ask: Callable[[Sequence[Query], SearchOptions], list[T]],
    write: Callable[[T, ModelRef], dict[str, Any]],
    use: Use,
) -> Response:
    body = await read_body(request, context.settings)
    async with context.epoch.held():
        queries, options, is_batch = await _read(request, context, body, fields, parameters, use)

        def work() -> tuple[list[T], ModelRef]:
            return ask(queries, options), context.engine.model_of(options.collection)

        found, model = await context.call(work)
    bodies = [write(one, model) for one in found]
    return json_response({"results": bodies} if is_batch else bodies[0])


async def _read(
    request: Request,
    context: Context,
    body: Body,
    fields: type[SearchRequest | ClassifyRequest],
    parameters: type[ClassifyParameters],
    use: Use,
) -> tuple[list[Query], SearchOptions, bool]:
    """The queries with their images encoded, how to look, and whether `results` is the answer."""
    if body.images is not None:
        if len(body.images) != 1:
            raise InvalidQuery(f"the request has {len(body.images)} images: send one query image at a time")
        options = _options(parse_query_string(parameters, request))
        return [await _encoded(request, context, body.images[0], use)], options, False
    sent = parse_fields(fields, body.fields or {})
    given = [name for name in ("image", "code", "id", "queries") if getattr(sent, name) is not None]
    if len(given) != 1:
        raise InvalidQuery(
            f"the query has {' and '.join(given) or 'none of image, code, id and queries'}: send exactly one"
        )
    options = _options(sent)
    if sent.queries is not None:
        queries = [Query(code=query.code, id=query.id, model=sent.model) for query in sent.queries]
        return queries, options, True
    if sent.image is not None:
        return [await _encoded(request, context, image_from_text(sent.image, "image"), use)], options, False
    return [Query(code=sent.code, id=sent.id, model=sent.model)], options, False


async def _encoded(request: Request, context: Context, image: bytes, use: Use) -> Query:
    (result,) = await context.encode(request, [image], use)
    if isinstance(result, StochConError):
        raise result
    return Query(image=result)


def _options(sent: ClassifyParameters) -> SearchOptions:
    return SearchOptions(
        collection=sent.collection,
        k=sent.k,
        radius=sent.radius,
        filter=sent.filter,
        exact=sent.exact,
        rescore=isinstance(sent, SearchParameters) and sent.rescore,
    )
