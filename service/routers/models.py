"""`/models`: the model files there are, and which one is in use."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from contracts.errors import Forbidden, UnsupportedMedia
from service.activation_record import Activation
from service.bodies import parse_fields, read_body
from service.context import Context, context_of
from service.model_check import check_in_fresh_process
from service.openapi import json_only
from service.routers.answers import json_response, model_card_body
from service.schemas import (
    ActivateRequest,
    ActivationAnswer,
    ModelCard,
    ModelsAnswer,
    NoParameters,
    UploadParameters,
)

router = APIRouter(tags=["models"])

_FILE = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/models", response_model=None, responses={200: {"model": ModelsAnswer}})
async def list_models(request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """All models, newest first, the files of the folder that are none, and how far an activation is."""
    context = context_of(request)
    listing = await context.call(context.engine.list_models)
    active, current = context.engine.active.id, context.activations.current
    return json_response(
        {
            "models": [model_card_body(model, model.id == active) for model in listing.models],
            "faults": [{"file": file, "detail": detail} for file, detail in listing.faults.items()],
            "activation": None if current is None else _body(current),
        }
    )


@router.post(
    "/models",
    response_model=None,
    status_code=201,
    responses={201: {"model": ModelCard}},
    openapi_extra=_FILE,
)
async def upload(request: Request, sent: Annotated[UploadParameters, Query()]) -> Response:
    """Put a model file into the model folder, once it has passed a check in a process of its own.

    Only a service with an API key takes any. Nothing is activated.
    """
    context = context_of(request)
    if context.settings.api_key is None:
        raise Forbidden(
            "models are only taken by a service with an API key: set STOCHCON_API_KEY, or copy the file into "
            "the model folder"
        )
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/octet-stream":
        raise UnsupportedMedia(
            f"the content type {media_type!r} is not that of a model: send the .onnx file as "
            "application/octet-stream"
        )
    settings, models = context.settings, context.engine.models

    def check(path: Path) -> str:
        return check_in_fresh_process(path, settings.provider, settings.threads).id

    added = await context.call_apart(models.add, sent.name, await request.body(), check)
    return json_response(model_card_body(added, added.id == context.engine.active.id), 201)


@router.get("/models/{model_id}", response_model=None, responses={200: {"model": ModelCard}})
async def get(model_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """One model with its whole card."""
    context = context_of(request)
    model = await context.call(context.engine.get_model, model_id)
    return json_response(model_card_body(model, model.id == context.engine.active.id))


@router.delete("/models/{model_id}", response_model=None, status_code=204)
async def delete(model_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Delete a model's file. One that is active, or that a collection keeps codes of, is refused."""
    context = context_of(request)

    def delete_unused() -> None:
        context.activations.check_unused(model_id)
        context.engine.models.delete(model_id)

    await context.call_apart(delete_unused)
    return Response(status_code=204)


@router.post(
    "/models/{model_id}/activate",
    response_model=None,
    status_code=202,
    responses={202: {"model": ActivationAnswer}},
    openapi_extra=json_only(ActivateRequest, {"missing": "leave-out"}),
)
async def activate(model_id: str, request: Request) -> Response:
    """Put a model into use: checked, every collection encoded again with it, and all switched at once.

    Searches and writes go on meanwhile; `activation` of `GET /models` says how far it is. Called again while
    it waits, it says what is to become of the items that cannot be encoded again.
    """
    context = context_of(request)
    fields = await _fields(request, context)
    missing = parse_fields(ActivateRequest, fields).missing
    return json_response(
        _body(await context.call_apart(context.activations.activate, model_id, missing)), 202
    )


@router.delete(
    "/models/{model_id}/activate", response_model=None, responses={200: {"model": ActivationAnswer}}
)
async def cancel(model_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Give up the activation of a model. What was encoded is kept for the next try."""
    context = context_of(request)
    return json_response(_body(await context.call_apart(context.activations.cancel, model_id)))


@router.post("/models/{model_id}/rollback", response_model=None, responses={200: {"model": ActivationAnswer}})
async def rollback(model_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Go back from the active model to the one before it, at once; `left_out` counts what was written since.

    To have that encoded first, activate the model before instead.
    """
    context = context_of(request)
    return json_response(_body(await context.call_apart(context.activations.rollback, model_id)))


async def _fields(request: Request, context: Context) -> dict[str, Any]:
    """The fields of a JSON body, which may be left out."""
    if not request.headers.get("content-type") and not await request.body():
        return {}
    return (await read_body(request, context.settings)).fields or {}


def _body(activation: Activation) -> dict[str, Any]:
    return asdict(activation)
