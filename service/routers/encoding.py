"""`POST /encode`: images to codes."""

from typing import Any

from fastapi import APIRouter, Request, Response

from contracts.codes import to_text
from contracts.errors import InvalidImage, InvalidInput, InvalidQuery, StochConError
from service.bodies import Body, check_num_images, image_from_text, parse_fields, read_body
from service.context import context_of
from service.encoding.encoding import Encoding
from service.openapi import image_or_json
from service.problems import problem
from service.queries import at_position
from service.routers.answers import json_response, model_body
from service.schemas import EncodeAnswer, EncodeRequest
from service.settings import Settings

router = APIRouter(tags=["encode"])

_OCTETS = "application/octet-stream"


@router.post(
    "/encode",
    response_model=None,
    responses={200: {"model": EncodeAnswer, "content": {_OCTETS: {}}}},
    openapi_extra=image_or_json(EncodeRequest, {"image": "/9j/4AAQSkZJRg..."}),
)
async def encode(request: Request) -> Response:
    """Codes of one or several images, in order.

    One image that is bad is a problem of its own; of several, each bad one leaves `{"error": problem}`
    in its place. With `Accept: application/octet-stream` the answer is the codes' bytes alone, and one
    bad image refuses all.
    """
    context = context_of(request)
    images = _images(await read_body(request, context.settings), context.settings)
    if request.query_params:
        raise InvalidInput(f"/encode takes no parameters: leave out {', '.join(request.query_params)}")
    async with context.epoch.held():
        results = await context.encode(request, images, "encode")
        model = context.engine.active.ref()
    if request.headers.get("accept", "").partition(";")[0].strip() == _OCTETS:
        return Response(
            b"".join(_code(result, i, len(results)) for i, result in enumerate(results)), media_type=_OCTETS
        )
    if len(results) == 1 and isinstance(results[0], StochConError):
        raise results[0]
    return json_response(
        {"model": model_body(model), "results": [_result_body(result) for result in results]}
    )


def _images(body: Body, settings: Settings) -> list[bytes]:
    if body.images is not None:
        return body.images
    sent = parse_fields(EncodeRequest, body.fields or {})
    if (sent.image is None) == (sent.images is None):
        raise InvalidQuery("the JSON must have exactly one of image and images, in standard base64")
    texts = [sent.image] if sent.image is not None else sent.images or []
    check_num_images(len(texts), settings)
    if not texts:
        raise InvalidQuery("images is empty: send at least one image")
    return [image_from_text(text, f"image {i}") for i, text in enumerate(texts)]


def _code(result: Encoding | StochConError, position: int, num_images: int) -> bytes:
    if isinstance(result, StochConError):
        # Whatever is wrong with it, bytes cannot stand in its place: 422, as the contract says.
        named = at_position(result, position) if num_images > 1 else result
        raise named if isinstance(named, InvalidImage) else InvalidImage(str(named))
    return result.code


def _result_body(result: Encoding | StochConError) -> dict[str, Any]:
    if isinstance(result, StochConError):
        return {"error": problem(result)}
    return {
        "code": to_text(result.code),
        "active_bits": result.active_bits,
        "entropy_bits": result.entropy_bits,
    }
