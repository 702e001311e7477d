"""`/models`: the model files there are."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.context import context_of
from service.routers.answers import json_response, model_card_body
from service.schemas import ModelCard, ModelsAnswer, NoParameters

router = APIRouter(tags=["models"])


@router.get("/models", response_model=None, responses={200: {"model": ModelsAnswer}})
async def list_models(request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """All models, newest first, and the files of the folder that are none."""
    context = context_of(request)
    listing = await context.call(context.engine.list_models)
    active = context.engine.active.id
    return json_response(
        {
            "models": [model_card_body(model, model.id == active) for model in listing.models],
            "faults": [{"file": file, "detail": detail} for file, detail in listing.faults.items()],
        }
    )


@router.get("/models/{model_id}", response_model=None, responses={200: {"model": ModelCard}})
async def get(model_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """One model with its whole card."""
    context = context_of(request)
    model = await context.call(context.engine.get_model, model_id)
    return json_response(model_card_body(model, model.id == context.engine.active.id))
