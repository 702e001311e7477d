"""What FastAPI cannot see by itself: bodies that the routes read on their own, and every problem."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import schemas
from service.jobs.job import JobSpec
from service.problems import PROBLEM_JSON

_REF = "#/components/schemas/{model}"
_IMAGE = {"type": "string", "format": "binary"}

_PROBLEMS = {
    "401": "The API key is missing or wrong.",
    "403": "A web page of another origin may have sent it, and there is no API key.",
    "404": "No such item, collection, job or model.",
    "408": "The rest of the body did not come in time.",
    "409": "Codes of another model, or a job in another state.",
    "413": "A body, an image or a list over its limit.",
    "415": "A body of a type that is not read here.",
    "422": "Content that cannot be used.",
    "429": "The queue is full; `Retry-After` says when to come back.",
    "503": "The model or the store is not available.",
}

_REQUESTS: tuple[type[BaseModel], ...] = (
    schemas.EncodeRequest,
    schemas.SearchRequest,
    schemas.ClassifyRequest,
    schemas.ItemsRequest,
    schemas.PutItemRequest,
    schemas.NewItemFields,
    schemas.Problem,
    JobSpec,
    schemas.RecodedRequest,
    schemas.ActivateRequest,
)


def image_or_json(
    request: type[BaseModel],
    example: dict[str, Any],
    parameters: type[BaseModel] | None = None,
    has_items: bool = False,
) -> dict[str, Any]:
    """`openapi_extra` of a call that takes images or JSON; `parameters` go with images, in the query."""
    parts: dict[str, Any] = {"image": {"type": "array", "items": _IMAGE}}
    if has_items:
        parts["items"] = {"type": "array", "items": {"$ref": _REF.format(model="NewItemFields")}}
    content = {
        "application/json": {"schema": {"$ref": _REF.format(model=request.__name__)}, "example": example},
        "multipart/form-data": {"schema": {"type": "object", "properties": parts, "required": ["image"]}},
        "image/*": {"schema": _IMAGE},
    }
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if parameters is not None:
        properties = parameters.model_json_schema()["properties"]
        extra["parameters"] = [
            {
                "name": name,
                "in": "query",
                "required": False,
                "schema": {key: value for key, value in schema.items() if key != "description"},
                "description": (schema.get("description", "") + " Beside images; a field in JSON.").strip(),
            }
            for name, schema in properties.items()
        ]
    return extra


def json_only(request: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a call that takes JSON."""
    schema = {"schema": {"$ref": _REF.format(model=request.__name__)}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


def describe_app(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        _, definitions = models_json_schema([(model, "validation") for model in _REQUESTS], ref_template=_REF)
        named = document.setdefault("components", {}).setdefault("schemas", {})
        named.update(definitions["$defs"])
        # FastAPI's own form of a refused parameter, which is never answered here.
        for unused in ("HTTPValidationError", "ValidationError"):
            named.pop(unused, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"] = _with_problems(operation["responses"])
        app.openapi_schema = document
    return app.openapi_schema


def _with_problems(responses: dict[str, Any]) -> dict[str, Any]:
    content = {PROBLEM_JSON: {"schema": {"$ref": _REF.format(model="Problem")}}}
    problems = {status: {"description": text, "content": content} for status, text in _PROBLEMS.items()}
    return {status: answer for status, answer in responses.items() if status != "422"} | problems
